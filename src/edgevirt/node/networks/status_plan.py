"""What was made → NetworkInstanceStatus and AppNetworkStatus, for the other services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from edgevirt.host.net.spec import Filter
from edgevirt.model.base import Severity, Trouble
from edgevirt.model.kinds import (
    APP_NETWORK_STATUS,
    NETWORK_INSTANCE,
    NETWORK_INSTANCE_STATUS,
)
from edgevirt.model.network import (
    AclAction,
    AppNetworkStatus,
    Assignment,
    NetworkInstance,
    NetworkInstanceState,
    NetworkInstanceStatus,
    Vif,
)
from edgevirt.node.networks.kinds import (
    BRIDGE,
    BRIDGE_STATUS,
    FILTER_STATUS,
    GUEST_STATUS,
    LINK,
    NAME_SERVER_STATUS,
    NODE,
    Bridge,
    FilterStatus,
    GuestStatus,
    Interface,
    Link,
)
from edgevirt.node.networks.link_plan import PROTOCOL_NAMES
from edgevirt.runtime import Inputs, Kind, Output


class InstanceStatusPlanner:
    name = "networks.instance-status"
    reads: tuple[Kind[Any], ...] = (
        NETWORK_INSTANCE,
        BRIDGE,
        BRIDGE_STATUS,
        NAME_SERVER_STATUS,
        LINK,
    )
    owns: tuple[Kind[Any], ...] = (NETWORK_INSTANCE_STATUS,)

    def plan(self, inputs: Inputs) -> Iterable[Output]:
        assignments = _assignments(inputs.all(LINK).values())
        for key, instance in inputs.all(NETWORK_INSTANCE).items():
            bridge = inputs.get(BRIDGE, key)
            if bridge is None:
                continue
            before = inputs.get(NETWORK_INSTANCE_STATUS, key)
            status = self._status(instance, bridge, inputs, assignments.get(key, ()))
            value = _stamp(status, before, inputs.now)
            yield Output(NETWORK_INSTANCE_STATUS, key, value)

    @staticmethod
    def _status(
        instance: NetworkInstance,
        bridge: Bridge,
        inputs: Inputs,
        assignments: tuple[Assignment, ...],
    ) -> NetworkInstanceStatus:
        made = inputs.get(BRIDGE_STATUS, instance.id)
        spec = bridge.spec
        server = inputs.get(NAME_SERVER_STATUS, spec.name) if spec is not None else None
        online = made is not None and made.spec == bridge.spec and not made.why
        served = server is not None and not server.why
        whys = [bridge.why, made.why if made else "", server.why if server else ""]
        if made is not None and instance.mtu > made.mtu:
            whys.append(
                f"cannot use the MTU {instance.mtu}: that of port {made.spec.uplink} is {made.mtu}"
            )
        why = next((why for why in whys if why), "")
        state = NetworkInstanceState.INIT
        if online and served and not bridge.why:
            state = NetworkInstanceState.ONLINE
        elif why:
            state = NetworkInstanceState.ERROR
        return NetworkInstanceStatus(
            id=instance.id,
            state=state,
            since=0.0,
            name=instance.name,
            type=instance.type,
            bridge=spec.name if spec else "",
            bridge_mac=spec.mac if spec else "",
            subnet=spec.subnet if spec else "",
            gateway=spec.gateway if spec else "",
            ports=(spec.uplink,) if spec and spec.uplink else (),
            assignments=assignments,
            trouble=_trouble(why, Severity.ERROR),
        )


class AppStatusPlanner:
    """An app is ready when its interfaces are there and the packet filter knows them.

    Once it is, an error of a later change is told, and the app stays ready: it runs on.
    """

    name = "networks.app-status"
    reads: tuple[Kind[Any], ...] = (LINK, GUEST_STATUS, FILTER_STATUS)
    owns: tuple[Kind[Any], ...] = (APP_NETWORK_STATUS,)

    def plan(self, inputs: Inputs) -> Iterable[Output]:
        enforced = inputs.get(FILTER_STATUS, NODE) or FilterStatus()
        guarded = _guarded(enforced.applied)
        for key, link in inputs.all(LINK).items():
            guest = inputs.get(GUEST_STATUS, key) or GuestStatus()
            links = tuple(interface.link for interface in link.interfaces)
            safe = all((k.host_name, k.bridge, k.mac, k.ip) in guarded for k in links)
            made = bool(guest.netns) and guest.links == links
            why = "; ".join(filter(None, [link.why, guest.why, *_taken(link, enforced)]))
            why = why or (enforced.why if not safe else "")
            status = AppNetworkStatus(
                app=link.app,
                ready=link.activate and made and safe,
                since=0.0,
                netns=guest.netns,
                vifs=tuple(_vif(interface) for interface in link.interfaces),
                dns=tuple(dict.fromkeys(k.gateway for k in links)),
                portmaps=tuple(_portmaps(link, enforced)),
                trouble=_trouble(why, Severity.NOTICE if link.waits else Severity.ERROR),
            )
            before = inputs.get(APP_NETWORK_STATUS, key)
            yield Output(APP_NETWORK_STATUS, key, _stamp(status, before, inputs.now))


def _assignments(links: Iterable[Link]) -> Mapping[str, tuple[Assignment, ...]]:
    found: dict[str, tuple[Assignment, ...]] = {}
    for link in sorted(links, key=lambda link: link.app):
        for interface in link.interfaces if link.activate else ():
            given = Assignment(mac=interface.link.mac, ip=interface.link.ip)
            found[interface.network] = (*found.get(interface.network, ()), given)
    return found


def _guarded(applied: Filter) -> set[tuple[str, str, str, str]]:
    return {(k.host_name, k.bridge, k.mac, k.ip) for k in applied.links}


def _vif(interface: Interface) -> Vif:
    link = interface.link
    return Vif(
        name=link.name,
        host_name=link.host_name,
        bridge=link.bridge,
        network=interface.network,
        mac=link.mac,
        ip=link.ip,
        prefix=link.prefix,
        gateway=link.gateway,
    )


def _mapped(link: Link) -> Iterator[tuple[int, int, int]]:
    for interface in link.interfaces:
        for rule in interface.rules:
            if rule.action == AclAction.PORTMAP:
                yield rule.protocol, rule.node_port, rule.local_port


def _taken(link: Link, enforced: FilterStatus) -> Iterator[str]:
    mine = {(protocol, port) for protocol, port, _ in _mapped(link)}
    for taken in enforced.taken:
        if (taken.protocol, taken.port) in mine:
            yield f"cannot map {PROTOCOL_NAMES[taken.protocol]} port {taken.port}: {taken.why}"


def _portmaps(link: Link, enforced: FilterStatus) -> Iterator[tuple[str, int, int]]:
    taken = {(k.protocol, k.port) for k in enforced.taken}
    for protocol, port, app_port in _mapped(link):
        if (protocol, port) not in taken:
            yield PROTOCOL_NAMES[protocol], port, app_port


def _trouble(why: str, severity: Severity) -> Trouble | None:
    """Without its time, which `_stamp` knows."""
    return Trouble(why=why, since=0.0, severity=severity) if why else None


_Status = TypeVar("_Status", NetworkInstanceStatus, AppNetworkStatus)


def _stamp(status: _Status, before: _Status | None, now: float) -> _Status:
    """Times of the last change: of the state (or readiness), and of the trouble."""
    since, trouble = now, status.trouble
    if before is not None:
        if _state(before) == _state(status):
            since = before.since
        old = before.trouble
        if trouble is not None and old is not None and old.why == trouble.why:
            trouble = old
    if trouble is not None and not trouble.since:
        trouble = msgspec.structs.replace(trouble, since=now)
    return msgspec.structs.replace(status, since=since, trouble=trouble)


def _state(status: NetworkInstanceStatus | AppNetworkStatus) -> object:
    return status.state if isinstance(status, NetworkInstanceStatus) else status.ready
