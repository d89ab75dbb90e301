"""Who gets which address and port, and who keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevirt.model.kinds import APP_NETWORK
from edgevirt.model.network import AppNetwork
from edgevirt.node.networks.kinds import BRIDGE, LINK, Bridge, Link
from edgevirt.node.networks.link_plan import LinkPlanner
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once
from tests.unit.node.networks.builders import allow, app, bridges, instance, portmap

BRIDGES = bridges(instance())


def plan(
    apps: Iterable[AppNetwork],
    before: Mapping[str, Link] | None = None,
    networks: Mapping[str, Bridge] = BRIDGES,
) -> dict[str, Link]:
    inputs: dict[Kind[Any], Mapping[str, Any]] = {
        APP_NETWORK: {it.app: it for it in apps},
        BRIDGE: networks,
        LINK: before or {},
    }
    return dict(plan_once(LinkPlanner(), inputs).all(LINK))


def test_what_one_app_gives_up_is_offered_to_the_one_that_was_refused_it() -> None:
    before = plan([app("a", 1, ip="10.1.0.10")])
    swapped = [app("a", 1, ip="10.1.0.12"), app("b", 2, ip="10.1.0.10")]
    inputs: dict[Kind[Any], Mapping[str, Any]] = {
        APP_NETWORK: {it.app: it for it in swapped},
        BRIDGE: BRIDGES,
        LINK: before,
    }
    planned = plan_once(LinkPlanner(), inputs)
    settled = planned.all(LINK)["b"].why == "" or planned.again is not None
    assert settled
    assert plan(swapped, planned.all(LINK))["b"].interfaces[0].link.ip == "10.1.0.10"


def ip(link: Link) -> str:
    return link.interfaces[0].link.ip


def test_addresses_are_given_from_the_start_of_the_range() -> None:
    links = plan([app("b", 2), app("a", 1)])
    assert (ip(links["a"]), ip(links["b"])) == ("10.1.0.10", "10.1.0.11")
    link = links["a"].interfaces[0].link
    assert (link.name, link.host_name, link.bridge) == ("eth0", "nbu0x1", "bn1")
    assert (link.prefix, link.gateway, link.default_route) == (24, "10.1.0.1", True)


def test_an_app_keeps_its_address_when_others_come_and_go() -> None:
    first = plan([app("a", 1), app("b", 2)])
    second = plan([app("b", 2), app("c", 3)], first)
    assert ip(second["b"]) == "10.1.0.11"
    assert ip(second["c"]) == "10.1.0.10"
    third = plan([app("0", 0), app("b", 2), app("c", 3)], second)
    assert (ip(third["b"]), ip(third["c"]), ip(third["0"])) == (
        "10.1.0.11",
        "10.1.0.10",
        "10.1.0.12",
    )


def test_the_mac_address_follows_from_who_asks() -> None:
    once, again = plan([app("a", 1)]), plan([app("a", 1)])
    mac = once["a"].interfaces[0].link.mac
    assert mac == again["a"].interfaces[0].link.mac
    assert mac.startswith("02:")
    assert mac != plan([app("b", 1)])["b"].interfaces[0].link.mac


def test_two_apps_that_ask_for_the_same_address() -> None:
    links = plan([app("a", 1, ip="10.1.0.50"), app("b", 2, ip="10.1.0.50")])
    assert ip(links["a"]) == "10.1.0.50"
    assert links["b"].interfaces == ()
    assert links["b"].why == "cannot connect B: the address 10.1.0.50 is asked for by A as well"
    assert ip(plan([app("b", 2, ip="10.1.0.50")], links)["b"]) == "10.1.0.50"


def test_two_apps_that_ask_for_the_same_mac() -> None:
    mac = "02:00:00:00:00:aa"
    links = plan([app("a", 1, mac=mac.upper()), app("b", 2, mac=mac)])
    assert links["a"].interfaces[0].link.mac == mac
    assert f"the address {mac} is asked for by A as well" in links["b"].why


def test_two_apps_of_one_number_do_not_take_each_others_interface() -> None:
    links = plan([app("a", 1), app("b", 1)])
    assert links["b"].why == "cannot connect B: the app number 1 is that of A"
    assert links["b"].interfaces == ()


def test_an_address_that_runs_is_not_taken_by_one_that_wants_it() -> None:
    first = plan([app("b", 2)])
    links = plan([app("a", 1, ip="10.1.0.10"), app("b", 2)], first)
    assert ip(links["b"]) == "10.1.0.10"
    assert "by B as well" in links["a"].why


def test_an_impossible_wish_leaves_a_running_app_as_it_was() -> None:
    first = plan([app("a", 1, allow(ip="10.0.0.0/8"))])
    changed = plan([app("a", 1, ip="10.9.9.9")], first)["a"]
    assert changed.interfaces == first["a"].interfaces
    assert "the address 10.9.9.9 is not one for apps of 10.1.0.0/24" in changed.why


def test_the_gateways_address_is_not_an_apps() -> None:
    assert "10.1.0.1 is the gateway's" in plan([app("a", 1, ip="10.1.0.1")])["a"].why


def test_a_full_range_is_said() -> None:
    links = plan([app(str(n), n) for n in range(1, 6)])
    assert sorted(ip(links[str(n)]) for n in range(1, 5)) == [f"10.1.0.{n}" for n in range(10, 14)]
    assert "every address from 10.1.0.10 to 10.1.0.13 is taken" in links["5"].why


def test_an_app_waits_for_its_network() -> None:
    link = plan([app("a", 1, network="elsewhere")])["a"]
    assert link.waits
    assert link.why == "cannot connect A: there is no network instance elsewhere"


def test_an_app_does_not_slip_into_the_network_that_replaced_its_own() -> None:
    first = plan([app("a", 1)])
    other = instance(
        id="other", subnet="10.2.0.0/24", gateway="10.2.0.1", first="10.2.0.2", last="10.2.0.9"
    )
    link = plan([app("a", 1)], first, bridges(other))["a"]
    assert link.interfaces == ()
    assert link.waits


def test_a_port_is_mapped_to_one_app_alone() -> None:
    links = plan([app("a", 1, portmap(8080)), app("b", 2, portmap(8080), portmap(8081))])
    assert links["b"].why == "cannot connect B: tcp port 8080 of the node is mapped to A"
    assert [rule.node_port for rule in links["b"].interfaces[0].rules] == [8081]
    both = plan([app("a", 1, portmap(8080)), app("b", 2, portmap(8080, protocol="udp"))])
    assert both["b"].why == ""


def test_a_port_map_stays_with_who_has_it() -> None:
    first = plan([app("b", 2, portmap(8080))])
    second = plan([app("a", 1, portmap(8080)), app("b", 2, portmap(8080))], first)
    assert second["b"].why == ""
    assert "is mapped to B" in second["a"].why
    third = plan([app("a", 1, portmap(8080)), app("b", 2)], second)
    fourth = plan([app("a", 1, portmap(8080)), app("b", 2)], third)
    assert fourth["a"].why == ""


def test_an_air_gapped_network_maps_no_port() -> None:
    gapped = bridges(instance(port=""))
    link = plan([app("a", 1, portmap(8080))], networks=gapped)["a"]
    assert "tcp port 8080 cannot be mapped: its network has no port of the node" in link.why
    assert not link.interfaces[0].link.default_route


def test_an_app_that_is_not_active_keeps_its_address() -> None:
    first = plan([app("a", 1), app("b", 2)])
    second = plan([app("a", 1, activate=False), app("b", 2), app("c", 3)], first)
    assert ip(second["a"]) == "10.1.0.10"
    assert not second["a"].activate
    assert ip(second["c"]) == "10.1.0.12"


_WISHES = st.fixed_dictionaries(
    {},
    optional={
        key: st.tuples(
            st.integers(1, 4), st.sampled_from(["", "10.1.0.10", "10.1.0.12", "10.1.0.99"])
        )
        for key in "abcdef"
    },
)


@settings(max_examples=60)
@given(st.lists(_WISHES, min_size=1, max_size=6))
def test_no_address_or_port_is_ever_given_twice(rounds: list[dict[str, tuple[int, str]]]) -> None:
    links: dict[str, Link] = {}
    for wishes in rounds:
        before = links
        apps = [app(key, n, portmap(8000 + n), ip=ip) for key, (n, ip) in wishes.items()]
        links = plan(apps, links)
        given = [it.link.ip for link in links.values() for it in link.interfaces]
        ports = [
            rule.node_port for link in links.values() for it in link.interfaces for rule in it.rules
        ]
        assert len(set(given)) == len(given)
        assert len(set(ports)) == len(ports)
        for key in before.keys() & links.keys():
            if before[key].interfaces:
                assert links[key].interfaces
        for _ in apps:
            links = plan(apps, links)
        assert plan(apps, links) == links


def test_a_plan_of_its_own_plan_changes_nothing() -> None:
    apps = [app("a", 1, portmap(8080), ip="10.1.0.12"), app("b", 2, portmap(8080)), app("c", 3)]
    links = plan(apps)
    assert plan(apps, links) == links
    renamed = [msgspec.structs.replace(it, name="new") for it in apps]
    assert {k: ip(v) for k, v in plan(renamed, links).items() if v.interfaces} == {
        k: ip(v) for k, v in links.items() if v.interfaces
    }
