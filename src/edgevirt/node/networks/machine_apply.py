"""The four places where the machine is changed: bridges, guests, name servers, packet filter."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

import msgspec

from edgevirt.host.net.network import Network, NetworkError
from edgevirt.host.net.spec import Filter, GuestSpec, Listener, NameServerSpec, Rule
from edgevirt.model.network import AclAction
from edgevirt.node.networks.kinds import (
    BRIDGE,
    BRIDGE_STATUS,
    FILTER,
    FILTER_STATUS,
    GUEST_STATUS,
    LINK,
    NAME_SERVER,
    NAME_SERVER_STATUS,
    Bridge,
    BridgeStatus,
    FilterStatus,
    GuestStatus,
    Link,
    NameServerStatus,
    PortTaken,
)
from edgevirt.runtime import Inputs, Kind, Report, Retry

T = TypeVar("T")


class BridgeReconciler:
    name = "networks.bridge"
    spec = BRIDGE
    status = BRIDGE_STATUS
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = 30.0

    def __init__(self, network: Network) -> None:
        self._network = network

    async def existing(self) -> Iterable[str]:
        return await _retrying(self._network.bridges())

    async def reconcile(
        self, key: str, spec: Bridge | None, inputs: Inputs, report: Report[BridgeStatus]
    ) -> BridgeStatus | None:
        if spec is None or spec.spec is None:
            await _retrying(self._network.remove_bridge(key))
            return None
        try:
            facts = await self._network.ensure_bridge(spec.spec)
        except NetworkError as error:
            await report(BridgeStatus(spec=spec.spec, mtu=0, why=str(error)))
            raise Retry(str(error)) from error
        return BridgeStatus(spec=spec.spec, mtu=facts.mtu)


class GuestReconciler:
    """Makes an app's namespace only when all that it asks for can be had; keeps it meanwhile."""

    name = "networks.guest"
    spec = LINK
    status = GUEST_STATUS
    reads: tuple[Kind[Any], ...] = (BRIDGE_STATUS,)
    recheck: float | None = 300.0

    def __init__(self, network: Network) -> None:
        self._network = network

    async def existing(self) -> Iterable[str]:
        return await _retrying(self._network.guests())

    async def reconcile(
        self, key: str, spec: Link | None, inputs: Inputs, report: Report[GuestStatus]
    ) -> GuestStatus | None:
        if spec is None or not spec.activate:
            await _retrying(self._network.remove_guest(key))
            return None
        if spec.why and key not in await _retrying(self._network.guests()):
            return None
        links = tuple(interface.link for interface in spec.interfaces)
        try:
            netns = await self._network.ensure_guest(GuestSpec(id=key, links=links))
        except NetworkError as error:
            await report(GuestStatus(why=str(error)))
            raise Retry(str(error)) from error
        return GuestStatus(links=links, netns=netns)


class NameServerReconciler:
    name = "networks.name-server"
    spec = NAME_SERVER
    status = NAME_SERVER_STATUS
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = 2.0
    """So soon a name server that died is replaced."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def existing(self) -> Iterable[str]:
        return await _retrying(self._network.name_servers())

    async def reconcile(
        self,
        key: str,
        spec: NameServerSpec | None,
        inputs: Inputs,
        report: Report[NameServerStatus],
    ) -> NameServerStatus | None:
        if spec is None:
            await _retrying(self._network.remove_name_server(key))
            return None
        try:
            return NameServerStatus(pid=await self._network.ensure_name_server(spec))
        except NetworkError as error:
            await report(NameServerStatus(why=str(error)))
            raise Retry(str(error)) from error


class FilterReconciler:
    """Applies the packet filter as a whole, less port maps whose port the node itself uses."""

    name = "networks.filter-apply"
    spec = FILTER
    status = FILTER_STATUS
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = 10.0
    """Ports become free, and tables may be flushed by others."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def existing(self) -> Iterable[str]:
        return ()

    async def reconcile(
        self, key: str, spec: Filter | None, inputs: Inputs, report: Report[FilterStatus]
    ) -> FilterStatus | None:
        wanted = spec or Filter()
        before = inputs.get(FILTER_STATUS, key) or FilterStatus()
        try:
            listening = await self._network.listeners()
            taken = _taken_ports(wanted, listening, _ports(before.applied))
            possible = _without(wanted, {(port.protocol, port.port) for port in taken})
            known = {link.host_name for link in possible.links}
            if possible != before.applied or not known <= set(await self._network.drops()):
                await self._network.apply_filter(possible)
        except NetworkError as error:
            await report(FilterStatus(applied=before.applied, taken=before.taken, why=str(error)))
            raise Retry(str(error)) from error
        return FilterStatus(applied=possible, taken=taken) if spec is not None else None


def _ports(applied: Filter) -> set[tuple[int, int]]:
    return {
        (rule.protocol, rule.node_port)
        for link in applied.links
        for rule in link.rules
        if rule.action == AclAction.PORTMAP
    }


def _taken_ports(
    wanted: Filter, listening: Iterable[Listener], mapped: set[tuple[int, int]]
) -> tuple[PortTaken, ...]:
    """Ports that are to be mapped and aren't yet, while a socket of the node listens there."""
    sockets = {(item.protocol, item.port): item.address for item in listening}
    return tuple(
        PortTaken(
            protocol=protocol,
            port=port,
            why=f"the node itself listens on {sockets[protocol, port]}:{port}",
        )
        for protocol, port in sorted(_ports(wanted) - mapped)
        if (protocol, port) in sockets
    )


def _without(wanted: Filter, taken: set[tuple[int, int]]) -> Filter:
    def stays(rule: Rule) -> bool:
        return rule.action != AclAction.PORTMAP or (rule.protocol, rule.node_port) not in taken

    links = tuple(
        msgspec.structs.replace(link, rules=tuple(filter(stays, link.rules)))
        for link in wanted.links
    )
    return Filter(zones=wanted.zones, links=links)


async def _retrying(call: Awaitable[T]) -> T:
    """For calls whose failure has no status to stand in."""
    try:
        return await call
    except NetworkError as error:
        raise Retry(str(error)) from error
