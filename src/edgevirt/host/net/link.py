"""One network interface, by netlink: found, and made to be as it should. What already is so is not
touched.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, TypeAlias

from edgevirt.host.netlink import IPRoute, NetlinkError

Message: TypeAlias = Any
"""pyroute2 has no types; `index`, `flags` and `get_attr` are what is used."""

UP = 1
AF_INET = 2


def find(netlink: IPRoute, name: str) -> Message | None:
    try:
        return netlink.link("get", ifname=name)[0]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def required(netlink: IPRoute, name: str) -> Message:
    link = find(netlink, name)
    if link is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no interface {name}")
    return link


def delete(netlink: IPRoute, name: str) -> None:
    link = find(netlink, name)
    try:
        if link is not None:
            netlink.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # its other end just went with its namespace
            raise


def name_of(link: Message) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def ensure_attributes(netlink: IPRoute, link: Message, *, mac: str, mtu: int) -> None:
    changes: dict[str, object] = {}
    if link.get_attr("IFLA_ADDRESS") != mac:
        changes["address"] = mac
    if link.get_attr("IFLA_MTU") != mtu:
        changes["mtu"] = mtu
    if not link["flags"] & UP:
        changes["state"] = "up"
    if changes:
        netlink.link("set", index=link["index"], **changes)


def ensure_addresses(netlink: IPRoute, index: int, wanted: set[tuple[str, int]]) -> None:
    present = {
        (str(address.get_attr("IFA_ADDRESS")), int(address["prefixlen"]))
        for address in netlink.get_addr(family=AF_INET, index=index)
    }
    for ip, prefix in present - wanted:
        netlink.addr("del", index=index, address=ip, prefixlen=prefix)
    for ip, prefix in wanted - present:
        netlink.addr("add", index=index, address=ip, prefixlen=prefix)


def set_sysctl(name: str, value: str) -> None:
    """Of the present network namespace, where the machine has it."""
    path = Path("/proc/sys/net", name)
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
