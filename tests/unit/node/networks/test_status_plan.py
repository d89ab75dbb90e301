"""What the other services are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edgevirt.host.net.spec import Filter, FilterLink
from edgevirt.model.base import Severity
from edgevirt.model.kinds import (
    APP_NETWORK,
    APP_NETWORK_STATUS,
    NETWORK_INSTANCE,
    NETWORK_INSTANCE_STATUS,
)
from edgevirt.model.network import AppNetwork, AppNetworkStatus, Assignment, NetworkInstanceState
from edgevirt.node.networks.kinds import (
    BRIDGE,
    BRIDGE_STATUS,
    FILTER_STATUS,
    GUEST_STATUS,
    LINK,
    NAME_SERVER_STATUS,
    NODE,
    BridgeStatus,
    FilterStatus,
    GuestStatus,
    Link,
    NameServerStatus,
    PortTaken,
)
from edgevirt.node.networks.link_plan import LinkPlanner
from edgevirt.node.networks.status_plan import AppStatusPlanner, InstanceStatusPlanner
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once
from tests.unit.node.networks.builders import INSIDE, allow, app, bridges, instance, portmap

BRIDGES = bridges(instance())


def linked(wanted: AppNetwork) -> Link:
    inputs: dict[Kind[Any], Mapping[str, Any]] = {
        APP_NETWORK: {wanted.app: wanted},
        BRIDGE: BRIDGES,
    }
    return plan_once(LinkPlanner(), inputs).all(LINK)[wanted.app]


LINK_A = linked(app("a", 1, allow(ip="10.0.0.0/8"), portmap(8080)))
MADE = GuestStatus(links=(LINK_A.interfaces[0].link,), netns="/run/netns/a")


def enforced(link: Link) -> Filter:
    return Filter(
        links=tuple(
            FilterLink(
                host_name=it.link.host_name, bridge=it.link.bridge, mac=it.link.mac, ip=it.link.ip
            )
            for it in link.interfaces
        )
    )


def status(
    link: Link = LINK_A,
    guest: GuestStatus | None = MADE,
    applied: FilterStatus | None = None,
    before: AppNetworkStatus | None = None,
    now: float = 100.0,
) -> AppNetworkStatus:
    inputs: dict[Kind[Any], dict[str, Any]] = {
        LINK: {"a": link},
        GUEST_STATUS: {"a": guest} if guest is not None else {},
        FILTER_STATUS: {NODE: applied or FilterStatus(applied=enforced(link))},
        APP_NETWORK_STATUS: {"a": before} if before is not None else {},
    }
    return plan_once(AppStatusPlanner(), inputs, now=now).all(APP_NETWORK_STATUS)["a"]


def test_an_app_is_ready_when_it_is_connected_and_guarded() -> None:
    told = status()
    assert told.ready
    assert told.netns == "/run/netns/a"
    assert told.portmaps == (("tcp", 8080, 80),)
    (vif,) = told.vifs
    assert (vif.name, vif.ip, vif.network) == ("eth0", "10.1.0.10", INSIDE)


def test_an_app_is_not_ready_before_the_filter_knows_it() -> None:
    assert not status(applied=FilterStatus()).ready
    told = status(applied=FilterStatus(why="cannot change the packet filter: no nft"))
    assert told.trouble is not None
    assert told.trouble.why == "cannot change the packet filter: no nft"


def test_an_app_is_not_ready_before_its_interfaces_are_there() -> None:
    assert not status(guest=None).ready
    assert not status(guest=GuestStatus(links=(), netns="/run/netns/a")).ready


def test_an_error_of_a_later_change_leaves_it_ready() -> None:
    told = status(link=msgspec.structs.replace(LINK_A, why="cannot connect A: no"))
    assert told.ready
    assert told.trouble is not None
    assert told.trouble.severity == Severity.ERROR


def test_waiting_is_no_error() -> None:
    link = Link(app=LINK_A.app, name="A", activate=True, why="cannot connect A: x", waits=True)
    told = status(link=link, guest=None)
    assert not told.ready
    assert told.trouble is not None
    assert told.trouble.severity == Severity.NOTICE


def test_a_port_that_is_taken_is_told_and_left_out() -> None:
    taken = PortTaken(protocol=6, port=8080, why="the node itself listens on 0.0.0.0:8080")
    told = status(applied=FilterStatus(applied=enforced(LINK_A), taken=(taken,)))
    assert told.ready
    assert told.portmaps == ()
    assert told.trouble is not None
    assert told.trouble.why.startswith("cannot map tcp port 8080: the node itself")


def test_times_are_those_of_the_change() -> None:
    first = status(link=msgspec.structs.replace(LINK_A, why="cannot connect A: no"), now=100)
    second = status(
        link=msgspec.structs.replace(LINK_A, why="cannot connect A: no"), before=first, now=200
    )
    assert second == first
    third = status(before=second, now=300)
    assert third.trouble is None
    assert third.since == 100
    assert status(guest=None, before=third, now=400).since == 400


def instance_status(**kinds: Any) -> Any:
    inputs: dict[Kind[Any], dict[str, Any]] = {
        NETWORK_INSTANCE: {INSIDE: kinds.get("wanted", instance())},
        BRIDGE: BRIDGES,
        BRIDGE_STATUS: kinds.get("made", {}),
        NAME_SERVER_STATUS: kinds.get("served", {}),
        LINK: {"a": LINK_A},
    }
    plan = plan_once(InstanceStatusPlanner(), inputs, now=100)
    return plan.all(NETWORK_INSTANCE_STATUS)[INSIDE]


def _made(mtu: int = 1500) -> dict[str, BridgeStatus]:
    spec = BRIDGES[INSIDE].spec
    assert spec is not None
    return {INSIDE: BridgeStatus(spec=spec, mtu=mtu)}


def test_an_instance_is_online_when_its_bridge_and_name_server_are_there() -> None:
    served = {"bn1": NameServerStatus(pid=7)}
    assert instance_status().state == NetworkInstanceState.INIT
    assert instance_status(made=_made()).state == NetworkInstanceState.INIT
    told = instance_status(made=_made(), served=served)
    assert told.state == NetworkInstanceState.ONLINE
    assert told.trouble is None
    assert told.assignments == (Assignment(mac=LINK_A.interfaces[0].link.mac, ip="10.1.0.10"),)


def test_a_name_server_that_fails_is_an_error_of_the_instance() -> None:
    served = {"bn1": NameServerStatus(why="cannot start the name server of bn1: no")}
    told = instance_status(made=_made(), served=served)
    assert told.state == NetworkInstanceState.ERROR
    assert told.trouble.why == "cannot start the name server of bn1: no"


def test_an_mtu_above_the_ports_is_told_and_works_with_less() -> None:
    told = instance_status(
        wanted=msgspec.structs.replace(instance(), mtu=9000),
        made=_made(1500),
        served={"bn1": NameServerStatus(pid=7)},
    )
    assert told.state == NetworkInstanceState.ONLINE
    assert told.trouble.why == "cannot use the MTU 9000: that of port eth0 is 1500"
