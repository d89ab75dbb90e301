"""The machine's Ethernet ports as the `ports` service uses them: one Protocol, and its adapters.

`LinuxPorts` sets them up; `AdoptedPorts` takes them as somebody else made them, which is how a node
in host mode has its uplink.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from edgevirt.host.net import addressing
from edgevirt.host.net.addressing import Interface, Placing
from edgevirt.host.net.dhcp import DhcpClient
from edgevirt.host.net.lease import Lease
from edgevirt.host.net.names import Names
from edgevirt.host.netlink import NetlinkError

T = TypeVar("T")

CAPABILITIES: Final = frozenset(
    {
        "NET_ADMIN",  # addresses, routes, links
        "NET_RAW",  # DHCP before there is an address
        "NET_BIND_SERVICE",  # its port is 68
    }
)
"""What a process needs for LinuxPorts; and it must be able to start programs."""

_METRIC_BASE: Final = 100
_METRICS_PER_COST: Final = 100


class PortsError(Exception):
    """«cannot X: why». The same call may succeed later."""


class Setup(msgspec.Struct, frozen=True):
    """How one interface is to be. With neither DHCP nor an address it is only switched on.

    `dns`, `ntp`, `domain` come before what a lease says. `mtu` 0: as it is. `cost` decides which
    default route is preferred.
    """

    interface: str
    dhcp: bool = False
    address: str = ""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""
    mtu: int = 0
    cost: int = 0


class Ports(Protocol):
    """All raise PortsError."""

    async def prepare(self) -> None:
        """Before anything else."""
        ...

    async def interfaces(self) -> Mapping[str, Interface]:
        """Every Ethernet interface of the machine as it is, by name."""
        ...

    async def apply(self, wanted: Sequence[Setup]) -> None:
        """Makes these interfaces as they are wanted, and takes from all others what they were
        given. What already matches is left alone; an interface that isn't there is passed over.
        A lease comes later: see `changed`."""
        ...

    async def changed(self) -> None:
        """Returns once something may have changed since it returned the last time."""
        ...

    async def close(self) -> None:
        """Addresses stay."""
        ...


class _Watch:
    """The kernel says that links, addresses or routes changed. What, is looked up elsewhere."""

    _GROUPS: Final = 0x1 | 0x10 | 0x40  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE
    _CALM: Final = 0.2
    """Seconds: changes come in flocks."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, self._GROUPS))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def _drain(self) -> None:
        with contextlib.suppress(OSError):  # ENOBUFS: some were lost, and any says all
            while self._socket.recv(65_536):
                pass
        self.event.set()

    async def wait(self) -> None:
        await self.event.wait()
        await asyncio.sleep(self._CALM)
        self.event.clear()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


class _Netlink:
    """What both adapters have: a thread for netlink, which blocks, and the watch."""

    def __init__(self) -> None:
        self._watch: _Watch | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ports")

    async def changed(self) -> None:
        assert self._watch is not None, "prepare comes first"
        await self._watch.wait()

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._thread.shutdown()

    async def _run(self, what: str, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (NetlinkError, OSError, ValueError) as error:
            raise PortsError(f"cannot {what}: {error}") from error


class LinuxPorts(_Netlink):
    """Of the network namespace that this process is in, whose ports nobody else sets up.

    `directory`: the DHCP clients' own. `names`: where names are looked up.
    """

    def __init__(self, directory: Path, names: Names) -> None:
        super().__init__()
        self._directory = directory
        self._names = names
        self._wanted: dict[str, Setup] = {}
        self._clients: dict[str, DhcpClient] = {}

    async def prepare(self) -> None:
        def run() -> None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._names.prepare()
            addressing.switch_on(["lo"])

        await self._run("prepare the ports", run)
        self._watch = self._watch or _Watch()

    async def interfaces(self) -> Mapping[str, Interface]:
        found = await self._run("list interfaces", addressing.interfaces)
        return {name: self._with_servers(item) for name, item in found.items()}

    def _with_servers(self, found: Interface) -> Interface:
        setup = self._wanted.get(found.name)
        if setup is None:
            return found
        lease = self._lease(found.name)
        return replace(
            found,
            dns=setup.dns or (lease.dns if lease else ()),
            ntp=setup.ntp or (lease.ntp if lease else ()),
            domain=setup.domain or (lease.domain if lease else ""),
        )

    async def apply(self, wanted: Sequence[Setup]) -> None:
        before, self._wanted = self._wanted, {setup.interface: setup for setup in wanted}
        for name in [name for name in self._clients if not self._by_dhcp(name)]:
            await self._clients.pop(name).close()
        fresh = {name for name in self._wanted if name not in before}
        await self._place(forget=before.keys() - self._wanted.keys(), keep=fresh)
        for name in self._wanted:
            if self._by_dhcp(name) and name not in self._clients:
                self._clients[name] = DhcpClient(name, self._directory, self._leased)
                self._clients[name].start()

    def _by_dhcp(self, name: str) -> bool:
        return name in self._wanted and self._wanted[name].dhcp

    def _lease(self, name: str) -> Lease | None:
        client = self._clients.get(name)
        return client.lease if client is not None else None

    async def _leased(self, name: str) -> None:
        """A lease came or went."""
        await self._place()
        if self._watch is not None:
            self._watch.event.set()

    async def _place(self, forget: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        """`keep`: interfaces whose address of an earlier run may stay until a lease comes."""
        by_cost = sorted(self._wanted.values(), key=lambda setup: (setup.cost, setup.interface))
        placings = [
            self._placing(setup, order, setup.interface in keep)
            for order, setup in enumerate(by_cost)
        ]
        placings += [Placing(interface=name, up=False) for name in forget]
        servers = [self._servers(setup) for setup in by_cost]
        domains = [
            setup.domain or (lease.domain if (lease := self._lease(setup.interface)) else "")
            for setup in by_cost
        ]

        def run() -> None:
            addressing.place(placings)
            self._names.resolve_by(
                [server for group in servers for server in group],
                [domain for domain in domains if domain],
            )

        await self._run("set up the ports", run)

    def _placing(self, setup: Setup, order: int, keep: bool) -> Placing:
        lease = self._lease(setup.interface) if setup.dhcp else None
        client = self._clients.get(setup.interface)
        unasked = client is None or not client.heard
        return Placing(
            interface=setup.interface,
            address=lease.address if lease else setup.address,
            gateway=setup.gateway or (lease.router if lease else ""),
            metric=_METRIC_BASE + setup.cost * _METRICS_PER_COST + min(order, 99),
            mtu=setup.mtu,
            keep=setup.dhcp and lease is None and unasked and (keep or client is not None),
        )

    def _servers(self, setup: Setup) -> tuple[str, ...]:
        lease = self._lease(setup.interface)
        return setup.dns or (lease.dns if lease else ())

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        await super().close()


class AdoptedPorts(_Netlink):
    """Ports that somebody else set up: they are told of and never touched."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    async def prepare(self) -> None:
        self._watch = self._watch or _Watch()

    async def interfaces(self) -> Mapping[str, Interface]:
        found = await self._run("list interfaces", addressing.interfaces)
        servers = self._names.servers()
        return {name: replace(item, dns=servers) for name, item in found.items()}

    async def apply(self, wanted: Sequence[Setup]) -> None:
        """They are as they are."""
