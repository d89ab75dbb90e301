"""TCP ports of this machine's loopback that lead into a container's own network.

A container run here has no network but its loopback. Whoever connects to a forwarded port is
connected to the same loopback by a socket that is made in the container's network namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final, Self

_BLOCK: Final = 64 * 1024
_CLONE_NEWNET: Final = 0x40000000
_PATIENCE: Final = 20.0
"""Seconds that the container has to come up."""


class Forwarder:
    """`state`: the command that tells the container's state. `ports`: outer → inner."""

    def __init__(self, state: Sequence[str], ports: Mapping[int, int]) -> None:
        self._state = list(state)
        self._ports = dict(ports)
        self._listeners: list[socket.socket] = []
        self._namespace = -1
        self._ready = threading.Event()
        self._ended = False

    def __enter__(self) -> Self:
        """Raises OSError when a port is taken."""
        try:
            for outer, inner in self._ports.items():
                listener = socket.create_server(("127.0.0.1", outer))
                self._listeners.append(listener)
                self._start(self._accept, listener, inner)
        except BaseException:
            self.__exit__()
            raise
        if self._ports:
            self._start(self._find)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    @staticmethod
    def _start(work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _find(self) -> None:
        """Opens the container's network namespace as soon as it is there."""
        deadline = time.monotonic() + _PATIENCE
        while not self._ended and time.monotonic() < deadline:
            done = subprocess.run(self._state, capture_output=True, check=False)
            with contextlib.suppress(ValueError, KeyError, OSError):
                pid = int(json.loads(done.stdout)["pid"])
                if pid > 0:
                    self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                    self._ready.set()
                    return
            time.sleep(0.1)

    def _accept(self, listener: socket.socket, inner: int) -> None:
        while not self._ended:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._start(self._serve, client, inner)

    def _serve(self, client: socket.socket, inner: int) -> None:
        """In a thread of its own, which moves to the container's network for good."""
        with client:
            if not self._ready.wait(_PATIENCE):
                return
            with contextlib.suppress(OSError):
                _enter(self._namespace)
                with socket.create_connection(("127.0.0.1", inner), timeout=_PATIENCE) as server:
                    server.settimeout(None)
                    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                    back.start()
                    _copy(client, server)
                    back.join()


def _enter(namespace: int) -> None:
    """Of this thread alone. Python has it from 3.12 on."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
