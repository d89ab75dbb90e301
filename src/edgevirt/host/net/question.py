"""One question to one DNS server, by one interface (RFC 1035).

The system's resolver asks all servers by whatever way out there is, which says nothing of a single
port; and a DNS library would take 9 MB in a service that never ends.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

A, AAAA = 1, 28
_CLASS_INTERNET: Final = 1
_RECURSE: Final = 0x0100
_ANSWER_MAX: Final = 4096
_NAME_ERROR: Final = 3
_SIZES: Final = {A: 4, AAAA: 16}


class NoAnswer(Exception):
    """Why there is no address."""


def ask(server: str, name: str, interface: str, timeout: float, kind: int = A) -> list[str]:
    """Addresses of `name`; none: the server knows of none. Raises NoAnswer."""
    number = secrets.randbelow(1 << 16)
    message = question(number, name, kind)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    deadline = time.monotonic() + timeout
    with socket.socket(family, socket.SOCK_DGRAM) as line:
        try:
            bind_to(line, interface)
            line.connect((server, 53))
            line.send(message)
            while True:
                line.settimeout(max(0.001, deadline - time.monotonic()))
                said = line.recv(_ANSWER_MAX)
                if said[:2] == message[:2]:
                    return answer(said, message, kind)
        except TimeoutError:
            raise NoAnswer(f"the DNS server {server} does not answer") from None
        except OSError as error:
            raise NoAnswer(f"the DNS server {server}: {error.strerror or error}") from None


def question(number: int, name: str, kind: int) -> bytes:
    """Raises NoAnswer when `name` cannot be asked for."""
    try:
        labels = [part.encode("idna") for part in name.rstrip(".").split(".")]
    except UnicodeError:
        raise NoAnswer(f"{name!r} is no name") from None
    if not all(0 < len(label) < 64 for label in labels) or sum(map(len, labels)) > 240:
        raise NoAnswer(f"{name!r} is no name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = struct.pack("!6H", number, _RECURSE, 1, 0, 0, 0)
    return header + encoded + struct.pack("!HH", kind, _CLASS_INTERNET)


def answer(said: bytes, asked: bytes, kind: int) -> list[str]:
    """Addresses in an answer to `asked`. Raises NoAnswer; whatever `said` is, nothing else."""
    try:
        flags, _, count = struct.unpack("!3H", said[2:8])
        if not flags & 0x8000 or said[12 : len(asked)] != asked[12:]:
            raise NoAnswer("the DNS server answers another question")
        code = flags & 0xF
        if code and code != _NAME_ERROR:
            raise NoAnswer(f"the DNS server refuses (code {code})")
        return list(_addresses(said, len(asked), count, kind))
    except (struct.error, IndexError, ValueError):
        raise NoAnswer("the DNS server's answer cannot be read") from None


def _addresses(said: bytes, at: int, count: int, kind: int) -> Iterator[str]:
    for _ in range(count):
        at = _after_name(said, at)
        found, _, _, size = struct.unpack("!HHIH", said[at : at + 10])
        at += 10
        if found == kind and size == _SIZES[kind]:
            yield str(ipaddress.ip_address(said[at : at + size]))
        at += size


def _after_name(said: bytes, at: int) -> int:
    """A name ends with an empty label or with a pointer to the rest of it."""
    while True:
        length = said[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at


def bind_to(line: socket.socket, interface: str) -> None:
    """Whatever the routes say, it goes by this interface."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
