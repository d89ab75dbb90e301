"""Names and leases of a network instance."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgevirt.host.net.spec import Lease, NameServerSpec
from edgevirt.model.kinds import APP_NETWORK
from edgevirt.model.network import AppNetwork, NetworkInstance
from edgevirt.node.networks.kinds import BRIDGE, BRIDGE_STATUS, LINK, NAME_SERVER, BridgeStatus
from edgevirt.node.networks.link_plan import LinkPlanner
from edgevirt.node.networks.name_server_plan import NameServerPlanner, dns_label
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once
from tests.unit.node.networks.builders import INSIDE, app, bridges, instance


def served(config: NetworkInstance) -> NameServerSpec:
    made = bridges(config)
    spec = made[INSIDE].spec
    assert spec is not None
    apps: dict[str, AppNetwork] = {
        it.app: it for it in (app("web shop", 1, mac="02:00:00:00:00:aa"), app("db", 2))
    }
    links = plan_once(LinkPlanner(), {APP_NETWORK: apps, BRIDGE: made}).all(LINK)
    inputs: dict[Kind[Any], Any] = {
        BRIDGE: made,
        BRIDGE_STATUS: {INSIDE: BridgeStatus(spec=spec, mtu=1400)},
        LINK: links,
    }
    return plan_once(NameServerPlanner(), inputs).all(NAME_SERVER)["bn1"]


def test_apps_the_router_and_static_names_are_answered() -> None:
    config = msgspec.structs.replace(
        instance(), static_names=(("printer", ("10.1.0.200",)),), ntp="192.0.2.7 pool.ntp.org"
    )
    spec = served(config)
    assert dict(spec.names) == {
        "db": ("10.1.0.11",),
        "printer": ("10.1.0.200",),
        "router": ("10.1.0.1",),
        "web-shop": ("10.1.0.10",),
    }
    assert Lease(mac="02:00:00:00:00:aa", ip="10.1.0.10", host="web-shop") in spec.leases
    assert spec.ntp == ("192.0.2.7",)
    assert spec.mtu == 1400
    assert spec.routed


def test_an_air_gapped_network_is_not_routed() -> None:
    assert not served(instance(port="")).routed


def test_a_name_server_waits_for_its_bridge() -> None:
    plan = plan_once(NameServerPlanner(), {BRIDGE: bridges(instance())})
    assert plan.all(NAME_SERVER) == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Web Shop", "web-shop"),
        ("a.b_c", "a-b-c"),
        ("--x--", "x"),
        ("é", ""),
        ("a" * 80, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_display_names_become_dns_labels(name: str, label: str) -> None:
    assert dns_label(name) == label
