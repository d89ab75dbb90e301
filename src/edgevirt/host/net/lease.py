"""What a DHCP client says: the words of a server that nobody vouches for, judged before use."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

RECORD_MAX: Final = 16_384
END: Final = b"\0\0"
"""Of a record."""
_DOMAIN: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SERVERS_MAX: Final = 8


class BadLease(Exception):
    """«cannot use the lease: why»."""


class Lease(msgspec.Struct, frozen=True):
    """`address` with its prefix. `router`: the first one, or empty."""

    address: str
    router: str = ""
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""


def parse(record: bytes) -> Lease | None:
    """None: there is no lease (any more). Raises BadLease. `record`: as `udhcpc.sh` writes it."""
    fields = dict(
        field.decode(errors="replace").split("=", 1)
        for field in record.split(b"\0")
        if b"=" in field
    )
    if fields.get("event") not in {"bound", "renew"}:
        return None
    try:
        address = ipaddress.IPv4Interface(f"{fields['ip']}/{int(fields['prefix'] or 32)}")
    except (KeyError, ValueError) as error:
        raise BadLease(f"cannot use the lease: {error}") from None
    if address.ip.is_loopback or address.ip.is_multicast or address.ip.is_unspecified:
        raise BadLease(f"cannot use the lease: {address.ip} is no address for an interface")
    domain = fields.get("domain", "")
    return Lease(
        address=str(address),
        router=_router(fields),
        dns=_servers(fields.get("dns", "")),
        ntp=_servers(fields.get("ntp", "")),
        domain=domain if _DOMAIN.fullmatch(domain) else "",
    )


def _router(fields: dict[str, str]) -> str:
    """A server that sends classless routes means them instead (RFC 3442)."""
    routes = fields.get("routes", "").split()
    if routes:
        pairs = zip(routes[::2], routes[1::2], strict=False)
        found = _servers(" ".join(gateway for to, gateway in pairs if to in {"0.0.0.0/0", "0/0"}))
    else:
        found = _servers(fields.get("router", ""))
    return found[0] if found else ""


def _servers(text: str) -> tuple[str, ...]:
    """Addresses alone; whatever else stands there is left out."""
    found = []
    for word in text.split()[:_SERVERS_MAX]:
        try:
            address = ipaddress.IPv4Address(word)
        except ValueError:
            continue
        if not address.is_unspecified:
            found.append(str(address))
    return tuple(found)
