"""Network interfaces that a container has for itself: moved into its network, and back.

The kernel brings a real one back by itself when its namespace ends; one that lives in the node's
namespace for apps has to be fetched.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from edgevirt.host.devices import can_bus
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.host.rights.namespace import inside
from edgevirt.model.can import CanBus

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")


def give(name: str, namespace: Path, can: CanBus | None = None) -> None:
    """`can`: how the bus is set before. Blocks. Raises HypervisorError."""
    if can is not None:
        can_bus.configure(name, can)
    try:
        target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(f"cannot give {name} to the app: {error}") from error
    try:
        _move(name, target)
        with inside(target):
            _bring_up(name, must=can is not None)
    except (NetlinkError, OSError) as error:
        raise HypervisorError(f"cannot give {name} to the app: {error}") from error
    finally:
        os.close(target)


def rename(name: str, wanted: str) -> str:
    """What it is called then: as before, where no interface can be called so. Blocks. Raises
    HypervisorError.
    """
    if name == wanted or not _NAME.fullmatch(wanted):
        return name
    try:
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=name):
                netlink.link("set", index=index, state="down")
                netlink.link("set", index=index, ifname=wanted)
    except NetlinkError as error:
        raise HypervisorError(f"cannot give {name} to the app as {wanted}: {error}") from error
    return wanted


def take_back(name: str, namespace: Path) -> None:
    """Blocks. No effect when the namespace is gone, or it is not there. Raises HypervisorError."""
    try:
        source = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(source).st_ino == os.fstat(own).st_ino:
            return
        with inside(source):
            _move(name, own, missing_ok=True)
    except (NetlinkError, OSError) as error:
        raise HypervisorError(f"cannot take {name} back from the app: {error}") from error
    finally:
        os.close(source)
        os.close(own)


def _move(name: str, namespace: int, *, missing_ok: bool = False) -> None:
    with IPRoute() as netlink:
        found = netlink.link_lookup(ifname=name)
        if found:
            netlink.link("set", index=found[0], net_ns_fd=namespace)
        elif not missing_ok:
            raise HypervisorError(f"cannot give {name} to the app: there is no such interface")


def _bring_up(name: str, *, must: bool) -> None:
    """One that is not a bus may be of use as it is."""
    with IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=name):
            try:
                netlink.link("set", index=index, state="up")
            except NetlinkError:
                if must:
                    raise
                return
