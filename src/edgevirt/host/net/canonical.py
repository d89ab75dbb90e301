"""The last check before text becomes a rule or a line of configuration.

Everything was parsed when it came in. These let nothing through that could be more than one word,
whatever came before; each returns its argument or raises ValueError.
"""

from __future__ import annotations

import re

_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_LABEL = "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def interface_name(text: str) -> str:
    if not _INTERFACE.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of an interface")
    return text


def mac_address(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address")
    return text


def dns_name(text: str) -> str:
    if len(text) > 253 or not _DNS_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a DNS name")
    return text
