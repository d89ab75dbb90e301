"""Which ports of the node are taken by its own sockets."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from edgevirt.host.net.spec import Listener

_TCP_LISTEN = "0A"
_SOURCES = (("tcp", 6), ("tcp6", 6), ("udp", 17), ("udp6", 17))
_TABLES = Path("/proc/thread-self/net")


def listeners() -> frozenset[Listener]:
    """Sockets of this network namespace that take what comes from outside.

    TCP sockets that listen, UDP sockets without a peer; loopback and connected ones left out.
    """
    found: set[Listener] = set()
    for name, protocol in _SOURCES:
        table = _TABLES / name
        if table.exists():
            found |= parse_sockets(table.read_text(), protocol)
    return frozenset(found)


def parse_sockets(table: str, protocol: int) -> set[Listener]:
    """The text of `/proc/net/{tcp,udp}{,6}` (proc(5)); IPv6 counts where it takes IPv4 as well."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4:
            continue
        local, peer, state = fields[1:4]
        open_to_all = state == _TCP_LISTEN if protocol == 6 else int(peer.split(":")[1], 16) == 0
        address = _address(local.split(":")[0])
        if open_to_all and address is not None and not address.is_loopback:
            port = int(local.split(":")[1], 16)
            found.add(Listener(protocol=protocol, address=str(address), port=port))
    return found


def _address(text: str) -> IPv4Address | None:
    """Little-endian words in hexadecimal. None: an IPv6 address that no IPv4 packet reaches."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return IPv4Address(packed)
    if packed == bytes(16):
        return IPv4Address(0)
    if packed[:12] == bytes(10) + b"\xff\xff":
        return IPv4Address(packed[12:])
    return None
