"""Which network instances are made, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from edgevirt.model.kinds import NETWORK_INSTANCE, PORT
from edgevirt.model.network import NetworkInstance, NetworkInstanceType
from edgevirt.model.node import Port
from edgevirt.node.networks.bridge_plan import BridgePlanner
from edgevirt.node.networks.kinds import BRIDGE, Bridge
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once
from tests.unit.node.networks.builders import INSIDE, instance

SWITCH = msgspec.structs.replace(instance(), type=NetworkInstanceType.SWITCH)


def plan(
    *instances: NetworkInstance,
    before: dict[str, Bridge] | None = None,
    ports: tuple[Port, ...] = (),
) -> dict[str, Bridge]:
    inputs: dict[Kind[Any], Mapping[str, Any]] = {
        NETWORK_INSTANCE: {it.id: it for it in instances},
        PORT: {port.name: port for port in ports},
        BRIDGE: before or {},
    }
    return dict(plan_once(BridgePlanner("eth0"), inputs).all(BRIDGE))


def test_a_valid_instance_becomes_a_bridge() -> None:
    spec = plan(instance())[INSIDE].spec
    assert spec is not None
    assert (spec.name, spec.owner, spec.mac) == ("bn1", INSIDE, "02:16:3e:06:00:01")
    assert (spec.subnet, spec.gateway, spec.uplink) == ("10.1.0.0/24", "10.1.0.1", "eth0")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subnet": ""}, "it has no subnet"),
        ({"subnet": "10.1.0.0/33"}, "'10.1.0.0/33' is not an IPv4 network"),
        ({"subnet": "10.1.0.0/31"}, "the subnet 10.1.0.0/31 has no room for a gateway and an app"),
        ({"gateway": ""}, "it has no gateway"),
        ({"gateway": "10.2.0.1"}, "the gateway 10.2.0.1 is not a host address of 10.1.0.0/24"),
        ({"gateway": "10.1.0.255"}, "the gateway 10.1.0.255 is not a host address of 10.1.0.0/24"),
        ({"gateway": "10.1.0.11"}, "the gateway 10.1.0.11 is inside the DHCP range"),
        ({"dhcp_first": ""}, "it has no start of the DHCP range"),
        ({"dhcp_last": ""}, "it has no end of the DHCP range"),
        ({"dhcp_last": "10.1.1.1"}, "the end of the DHCP range 10.1.1.1 is not a host address"),
        ({"dhcp_first": "10.1.0.14"}, "the DHCP range 10.1.0.14–10.1.0.13 ends before it starts"),
        ({"mtu": 100}, "the MTU 100 is not between 1280 and 65535"),
        ({"domain": "a b"}, "'a b' is not a DNS name"),
        ({"dns": ("one",)}, "'one' in its DNS config is not an IPv4 address"),
        ({"port": "eth7"}, "this node has no port eth7"),
        ({"type": NetworkInstanceType.SWITCH}, "switch network instances come later"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], why: str) -> None:
    bridge = plan(msgspec.structs.replace(instance(), **change))[INSIDE]
    assert bridge.spec is None
    assert bridge.why.startswith(f"cannot make network instance inside: {why}")


def test_a_subnet_that_overlaps_is_refused_and_the_other_named() -> None:
    first = plan(instance())
    late = instance(
        id="a-later",
        subnet="10.1.0.128/25",
        gateway="10.1.0.129",
        first="10.1.0.130",
        last="10.1.0.140",
        name="late",
    )
    both = plan(late, instance(), before=first)
    assert both[INSIDE].why == ""
    assert both["a-later"].spec is None
    assert (
        both["a-later"].why == "cannot make network instance late: "
        "its subnet 10.1.0.128/25 overlaps 10.1.0.0/24 of inside"
    )


def test_a_typing_error_leaves_what_is_there() -> None:
    before = plan(instance())
    after = plan(msgspec.structs.replace(instance(), gateway="nonsense"), before=before)[INSIDE]
    assert after.spec == before[INSIDE].spec
    assert after.config == instance()
    assert "'nonsense' is not an IPv4 address" in after.why


def test_numbers_stay_and_are_used_again() -> None:
    def some(*names: str, before: dict[str, Bridge] | None = None) -> dict[str, Bridge]:
        return plan(
            *(
                instance(
                    id=name,
                    subnet=f"10.{ord(name)}.0.0/24",
                    gateway=f"10.{ord(name)}.0.1",
                    first=f"10.{ord(name)}.0.2",
                    last=f"10.{ord(name)}.0.9",
                )
                for name in names
            ),
            before=before,
        )

    first = some("b", "c", "d")
    assert {key: bridge.number for key, bridge in first.items()} == {"b": 1, "c": 2, "d": 3}
    second = some("a", "b", "d", before=first)
    assert {key: bridge.number for key, bridge in second.items()} == {"a": 2, "b": 1, "d": 3}


def test_a_label_means_the_cheapest_port_that_bears_it() -> None:
    ports = (
        Port(name="lte", ifname="wwan0", cost=5),
        Port(name="wan", ifname="eth1"),
        Port(name="lan", ifname="eth2", uplink=False),
    )

    def uplink(label: str) -> str:
        spec = plan(instance(port=label), ports=ports)[INSIDE].spec
        assert spec is not None
        return spec.uplink

    assert uplink("uplink") == "eth1"
    assert uplink("freeuplink") == "eth1"
    assert uplink("all") == "eth2"
    assert uplink("lte") == "wwan0"
    assert uplink("eth2") == "eth2"
    assert uplink("") == ""
