"""Host mode: the namespaces that make a node of a part of this machine, and its uplink into it.

`Uplink` is the outer side, made by the process that starts the node; the functions before it are
single steps of going inside, in the order in which a launcher takes them. Python 3.11 has no
`unshare`, `setns` or `mount`, so these few calls go to libc.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from edgevirt.host.net import nft
from edgevirt.host.netlink import IPRoute, NetlinkError


class Namespaces(enum.IntFlag):
    """What `unshare` and `setns` take (`CLONE_NEW*` of linux/sched.h)."""

    MOUNT = 0x0002_0000
    CGROUP = 0x0200_0000
    UTS = 0x0400_0000
    IPC = 0x0800_0000
    PID = 0x2000_0000
    NETWORK = 0x4000_0000


_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: Namespaces) -> None:
    """Gives the calling thread new namespaces. A new PID namespace holds its children only."""
    _checked(_libc.unshare(ctypes.c_int(kinds)), f"cannot unshare {kinds!r}")


def setns(namespace: int, kind: Namespaces) -> None:
    """Moves the calling thread into the namespace behind a file descriptor."""
    _checked(_libc.setns(namespace, ctypes.c_int(kind)), f"cannot enter {kind!r}")


def isolate_mounts() -> None:
    """After unshare(MOUNT): no mount made from now on is seen outside, nor the other way."""
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)


def mount_proc() -> None:
    """In the first process of a PID namespace: a /proc that shows it."""
    _mount("proc", Path("/proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def mount_sys() -> None:
    """In a new network namespace: a /sys that shows its interfaces. The control groups stay."""
    groups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _mount("sysfs", Path("/sys"), "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        below = Path("/sys/fs/cgroup")
        _mount(f"/proc/self/fd/{groups}", below, None, _MS_BIND | _MS_REC)
    finally:
        os.close(groups)


def loopback_up() -> None:
    """In a new network namespace: makes 127.0.0.1 answer."""
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


def network_namespace_of(pid: int) -> int:
    """A file descriptor, the caller's to close."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """The calling thread in another network namespace for a while.

    Sockets opened meanwhile belong to that namespace for good. Nothing may be awaited within.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, Namespaces.NETWORK)
        try:
            yield
        finally:
            setns(own, Namespaces.NETWORK)
    finally:
        os.close(own)


def keep_network_namespace(path: Path) -> None:
    """Makes a new, empty network namespace that lives as long as the mount at `path`.

    Leaves the calling thread where it was. FileExistsError when there is one already.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        unshare(Namespaces.NETWORK)
        try:
            _mount("/proc/thread-self/ns/net", path, None, _MS_BIND)
        finally:
            setns(own, Namespaces.NETWORK)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(own)


def is_network_namespace(path: Path) -> bool:
    """False also for the bare file that is left when a mount is gone."""
    try:
        return path.stat().st_dev == Path("/proc/thread-self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def drop_network_namespace(path: Path) -> None:
    """Removes the mount and the file. The namespace ends with its last process. Idempotent."""
    if not path.exists():
        return
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0 and ctypes.get_errno() != errno.EINVAL:
        _checked(-1, f"cannot unmount {path}")
    path.unlink(missing_ok=True)


def _mount(source: str | None, target: Path, kind: str | None, flags: int) -> None:
    arguments = (
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else os.fsencode(kind),
        ctypes.c_ulong(flags),
        None,
    )
    _checked(_libc.mount(*arguments), f"cannot mount on {target}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


class UplinkError(Exception):
    """«cannot connect the node: why»."""


class UplinkAddresses(msgspec.Struct, frozen=True):
    """The two ends: `host` is the node's default gateway, `node` its `eth0`."""

    subnet: IPv4Network
    host: IPv4Address
    node: IPv4Address


POOL = IPv4Network("10.77.0.0/16")
"""Uplinks take a free /24 of it, unless told which subnet."""
NODE_INTERFACE = "eth0"
_LOCK = Path("/run/edgevirt-uplink.lock")


class Uplink:
    """The wire between this machine and a host-mode node.

    All names come from the node's state directory, so that a node started again finds and
    removes what a killed run left. The node reaches on this machine the forwarded ports (and
    ping), nothing else; this machine reaches all of the node's.
    """

    def __init__(self, state: Path) -> None:
        self._hash = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]
        self.interface = f"ev{self._hash}h"
        self.table = f"edgevirt_{self._hash}"
        self._inner = f"ev{self._hash}n"

    def open(
        self,
        namespace: int,
        *,
        subnet: IPv4Network | None = None,
        forwards: Mapping[int, int] | None = None,
        masquerade: bool = False,
    ) -> UplinkAddresses:
        """Connects the network namespace behind the file descriptor.

        `forwards`: port of the uplink's host address → TCP port of this machine's loopback.
        `masquerade`: the node may go out through this machine, under its address; turns IP
        forwarding on for the machine, and leaves it on.
        """
        self.close()
        with _LOCK.open("w") as lock, IPRoute() as netlink:
            fcntl.flock(lock, fcntl.LOCK_EX)
            addresses = _addresses(subnet or self._free_subnet(netlink))
            try:
                self._connect(netlink, namespace, addresses)
            except BaseException:
                self.close()
                raise
        try:
            _set("net/ipv4/conf", self.interface, "route_localnet", "1")
            _set("net/ipv6/conf", self.interface, "disable_ipv6", "1")
            nft.apply(
                uplink_rules(self.table, self.interface, addresses, forwards or {}, masquerade)
            )
            if masquerade:
                _set("net/ipv4", "", "ip_forward", "1")
        except BaseException:
            self.close()
            raise
        return addresses

    def close(self) -> None:
        """Removes everything that `open` made, also in another run. Idempotent."""
        nft.remove_table("inet", self.table)
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=self.interface):
                try:
                    netlink.link("del", index=index)
                except NetlinkError as error:
                    if error.code != errno.ENODEV:  # it went with the node's namespace, just now
                        raise

    def _free_subnet(self, netlink: IPRoute) -> IPv4Network:
        taken = _networks_in_use(netlink)
        candidates = list(POOL.subnets(new_prefix=24))
        first = int(self._hash, 16) % len(candidates)
        for candidate in candidates[first:] + candidates[:first]:
            if not any(candidate.overlaps(network) for network in taken):
                return candidate
        raise UplinkError(f"cannot connect the node: every subnet of {POOL} is in use")

    def _connect(self, netlink: IPRoute, namespace: int, addresses: UplinkAddresses) -> None:
        netlink.link("add", ifname=self.interface, kind="veth", peer={"ifname": self._inner})
        (outer,) = netlink.link_lookup(ifname=self.interface)
        (inner,) = netlink.link_lookup(ifname=self._inner)
        prefix = addresses.subnet.prefixlen
        netlink.addr("add", index=outer, address=str(addresses.host), prefixlen=prefix)
        netlink.link("set", index=inner, net_ns_fd=namespace)
        netlink.link("set", index=outer, state="up")
        with inside(namespace), IPRoute() as within:
            within.link("set", index=1, state="up")
            (index,) = within.link_lookup(ifname=self._inner)
            within.link("set", index=index, ifname=NODE_INTERFACE)
            within.addr("add", index=index, address=str(addresses.node), prefixlen=prefix)
            within.link("set", index=index, state="up")
            within.route("add", dst="default", gateway=str(addresses.host))


def uplink_rules(
    table: str,
    interface: str,
    addresses: UplinkAddresses,
    forwards: Mapping[int, int],
    masquerade: bool,
) -> list[str]:
    """The packet filter of one uplink, as nft's statements.

    `route_localnet` would open all of this machine's loopback to the node: what asks for
    127.0.0.0/8 itself is dropped before any translation.
    """
    target = f"table inet {table}"
    rules = [
        f"add {target}",
        f"delete {target}",
        f"add {target}",
        f"add chain inet {table} raw {{ type filter hook prerouting priority raw; }}",
        f"add rule inet {table} raw iifname {interface} ip daddr 127.0.0.0/8 drop",
        f"add chain inet {table} prerouting {{ type nat hook prerouting priority dstnat; }}",
        f"add chain inet {table} input {{ type filter hook input priority filter; }}",
        f"add rule inet {table} input iifname != {interface} accept",
        f"add rule inet {table} input ct state established,related accept",
        f"add rule inet {table} input ct status dnat accept",
        f"add rule inet {table} input icmp type echo-request accept",
        f"add rule inet {table} input drop",
        f"add chain inet {table} forward {{ type filter hook forward priority filter; }}",
    ]
    rules += [
        f"add rule inet {table} prerouting iifname {interface} ip daddr {addresses.host} "
        f"tcp dport {port} dnat ip to 127.0.0.1:{local}"
        for port, local in sorted(forwards.items())
    ]
    if masquerade:
        rules += [
            f"add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat; }}",
            f"add rule inet {table} postrouting ip saddr {addresses.subnet} "
            f"oifname != {interface} masquerade",
        ]
    else:
        rules.append(
            f"add rule inet {table} forward iifname {interface} ct state new drop",
        )
    return rules


def _addresses(subnet: IPv4Network) -> UplinkAddresses:
    if subnet.prefixlen > 30:
        raise UplinkError(f"cannot connect the node: {subnet} has no room for two addresses")
    return UplinkAddresses(subnet, subnet[1], subnet[2])


def _networks_in_use(netlink: IPRoute) -> list[IPv4Network]:
    """What this machine has addresses in or routes to, the default route aside."""
    used = [
        IPv4Network((message.get_attr("IFA_ADDRESS"), message["prefixlen"]), strict=False)
        for message in netlink.get_addr(family=2)
    ]
    for route in netlink.get_routes(family=2):
        destination = route.get_attr("RTA_DST")
        if destination is not None:
            used.append(IPv4Network((destination, route["dst_len"]), strict=False))
    return used


def _set(tree: str, interface: str, name: str, value: str) -> None:
    """Writes a sysctl of the present network namespace, where the machine has it."""
    path = Path("/proc/sys", tree, interface, name)
    if path.exists():
        path.write_text(value)
