"""Ports of the loopback for servers that are told theirs before they start."""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = range(10_000, 32_000)
"""The kernel gives none of them to a client, so that nobody takes one between here and there."""


def free_port() -> int:
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
