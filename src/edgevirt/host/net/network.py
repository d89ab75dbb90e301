"""The machine's network as controllers use it: one Protocol, and its adapter for Linux."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from edgevirt.host.net import nft
from edgevirt.host.net.connections import Port, Target, changed_ports, forget_flows, port_maps
from edgevirt.host.net.filter import TABLE, ruleset
from edgevirt.host.net.links import LinkError, Links
from edgevirt.host.net.listeners import listeners
from edgevirt.host.net.name_server import NameServerError, NameServers
from edgevirt.host.net.spec import (
    BridgeFacts,
    BridgeSpec,
    Filter,
    GuestSpec,
    LinkCounters,
    Listener,
    NameServerSpec,
)
from edgevirt.host.netlink import NetlinkError

T = TypeVar("T")

CAPABILITIES = frozenset(
    {
        "NET_ADMIN",  # links, addresses, sysctls, packet filter
        "SYS_ADMIN",  # namespaces and their mounts
        # to run name servers as another user: give them their files, become it, tell it, and
        # hand on what they need themselves
        "CHOWN",
        "SETUID",
        "SETGID",
        "KILL",
        "NET_RAW",
        "NET_BIND_SERVICE",
    }
)
"""What a process needs for LinuxNetwork, inheritable and ambient; and it must be able to start
programs, mount, and make and enter namespaces."""


class NetworkError(Exception):
    """«cannot X: why». The same call may succeed later."""


class Network(Protocol):
    """Every `ensure_…` leaves alone what already matches, and may be repeated at will; every
    `remove_…` succeeds when there is nothing. All raise NetworkError."""

    async def prepare(self) -> None:
        """Before anything else."""
        ...

    async def bridges(self) -> Mapping[str, str]:
        """Names of what is there by owner."""
        ...

    async def ensure_bridge(self, spec: BridgeSpec) -> BridgeFacts: ...

    async def remove_bridge(self, owner: str) -> None: ...

    async def guests(self) -> frozenset[str]: ...

    async def ensure_guest(self, spec: GuestSpec) -> str:
        """Path of its network namespace."""
        ...

    async def remove_guest(self, guest: str) -> None: ...

    async def name_servers(self) -> frozenset[str]:
        """Bridges that have one, or remains of one."""
        ...

    async def ensure_name_server(self, spec: NameServerSpec) -> int:
        """Its process id."""
        ...

    async def remove_name_server(self, bridge: str) -> None: ...

    async def apply_filter(self, wanted: Filter) -> None:
        """All of it at once. Connections that `wanted` still allows go on."""
        ...

    async def drops(self) -> Mapping[str, int]:
        """Packets that the rules dropped, by host interface; survives `apply_filter`."""
        ...

    async def counters(self) -> Mapping[str, LinkCounters]: ...

    async def listeners(self) -> frozenset[Listener]: ...


class LinuxNetwork:
    """The network namespace that this process is in. Calls run one after the other, in a thread
    of their own: a thread may visit other namespaces, and netlink blocks."""

    def __init__(self, namespaces: Path, name_servers: Path) -> None:
        self._links = Links(namespaces)
        self._name_servers = NameServers(name_servers)
        self._port_maps: Mapping[Port, Target] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def close(self) -> None:
        self._thread.shutdown()

    async def prepare(self) -> None:
        def run() -> None:
            self._links.prepare()
            self._name_servers.prepare()

        await self._run("prepare the network", run)

    async def bridges(self) -> Mapping[str, str]:
        return await self._run("list bridges", self._links.bridges)

    async def ensure_bridge(self, spec: BridgeSpec) -> BridgeFacts:
        return await self._run(f"make bridge {spec.name}", lambda: self._links.ensure_bridge(spec))

    async def remove_bridge(self, owner: str) -> None:
        await self._run(f"remove bridge of {owner}", lambda: self._links.remove_bridge(owner))

    async def guests(self) -> frozenset[str]:
        return await self._run("list guests", lambda: frozenset(self._links.guests()))

    async def ensure_guest(self, spec: GuestSpec) -> str:
        await self._run(f"connect {spec.id}", lambda: self._links.ensure_guest(spec))
        return str(self._links.namespace_of(spec.id))

    async def remove_guest(self, guest: str) -> None:
        await self._run(f"disconnect {guest}", lambda: self._links.remove_guest(guest))

    async def name_servers(self) -> frozenset[str]:
        return await self._run("list name servers", lambda: frozenset(self._name_servers.present()))

    async def ensure_name_server(self, spec: NameServerSpec) -> int:
        return await self._run(
            f"serve names on {spec.bridge}", lambda: self._name_servers.ensure(spec)
        )

    async def remove_name_server(self, bridge: str) -> None:
        await self._run(
            f"stop the name server of {bridge}", lambda: self._name_servers.remove(bridge)
        )

    async def apply_filter(self, wanted: Filter) -> None:
        def run() -> None:
            nft.apply(ruleset(wanted, nft.counters("inet", TABLE)))
            maps = port_maps(wanted)
            forget_flows(changed_ports(self._port_maps, maps), maps)
            self._port_maps = maps

        await self._run("filter packets", run)

    async def drops(self) -> Mapping[str, int]:
        def run() -> dict[str, int]:
            return {name: count.packets for name, count in nft.counters("inet", TABLE).items()}

        return await self._run("count dropped packets", run)

    async def counters(self) -> Mapping[str, LinkCounters]:
        return await self._run("count packets", self._links.counters)

    async def listeners(self) -> frozenset[Listener]:
        return await self._run("list listening sockets", listeners)

    async def _run(self, what: str, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, call)
        except (nft.FilterError, NameServerError) as error:
            raise NetworkError(str(error)) from error
        except (LinkError, NetlinkError, OSError) as error:
            raise NetworkError(f"cannot {what}: {error}") from error
