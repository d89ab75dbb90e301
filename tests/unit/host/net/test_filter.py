"""The packet filter's text: golden, so that a change of it is seen and read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgevirt.host.net import nft
from edgevirt.host.net.filter import ruleset
from edgevirt.host.net.nft import Count, FilterError
from edgevirt.host.net.spec import Filter, FilterLink, Rule, Zone
from edgevirt.host.rights import namespace
from edgevirt.model.network import AclAction

GOLDEN = Path(__file__).parents[3] / "golden" / "networks"

FILTER = Filter(
    zones=(
        Zone(bridge="bn2", subnet="10.2.0.0/16", gateway="10.2.0.1"),
        Zone(bridge="bn1", subnet="10.1.0.0/24", gateway="10.1.0.1", uplink="eth0"),
    ),
    links=(
        FilterLink(
            host_name="nbu1x1",
            bridge="bn2",
            mac="02:00:00:00:00:03",
            ip="10.2.0.2",
        ),
        FilterLink(
            host_name="nbu0x1",
            bridge="bn1",
            mac="02:00:00:00:00:02",
            ip="10.1.0.2",
            rules=(
                Rule(action=AclAction.DROP, remote="192.0.2.0/24", protocol=6, remote_port=25),
                Rule(action=AclAction.PORTMAP, protocol=6, node_port=8080, local_port=80),
                Rule(
                    action=AclAction.PORTMAP,
                    remote="198.51.100.0/24",
                    protocol=17,
                    node_port=53,
                    local_port=5353,
                    remote_port=53,
                ),
                Rule(action=AclAction.ALLOW, protocol=1),
                Rule(action=AclAction.ALLOW, protocol=17, local_port=123),
                Rule(action=AclAction.ALLOW, remote="0.0.0.0/0"),
            ),
        ),
    ),
)


def test_the_text_is_as_it_was_reviewed() -> None:
    text = "\n".join(ruleset(FILTER, {"nbu0x1": Count(7, 420)})) + "\n"
    assert text == (GOLDEN / "filter.nft").read_text()


def test_the_order_of_what_is_wanted_does_not_matter() -> None:
    turned = Filter(zones=FILTER.zones[::-1], links=FILTER.links[::-1])
    assert ruleset(turned, {}) == ruleset(FILTER, {})


@pytest.mark.parametrize(
    "link",
    [
        FilterLink(
            host_name='nbu0x1" accept', bridge="bn1", mac="02:00:00:00:00:02", ip="10.1.0.2"
        ),
        FilterLink(host_name="nbu0x1", bridge="bn1\n", mac="02:00:00:00:00:02", ip="10.1.0.2"),
        FilterLink(host_name="nbu0x1", bridge="bn1", mac="02:00:00:00:00:02 }", ip="10.1.0.2"),
        FilterLink(host_name="nbu0x1", bridge="bn1", mac="02:00:00:00:00:02", ip="10.1.0.2 }"),
        FilterLink(
            host_name="nbu0x1",
            bridge="bn1",
            mac="02:00:00:00:00:02",
            ip="10.1.0.2",
            rules=(Rule(action=AclAction.ALLOW, remote="10.0.0.0/8 accept"),),
        ),
    ],
)
def test_what_is_no_address_or_name_never_becomes_a_rule(link: FilterLink) -> None:
    with pytest.raises(ValueError, match=r"not|Expected|permitted"):
        ruleset(Filter(zones=FILTER.zones, links=(link,)), {})


@pytest.mark.root
def test_the_kernel_takes_the_text_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "netns"
    namespace.keep_network_namespace(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        with namespace.inside(fd):
            nft.apply(ruleset(FILTER, {"nbu0x1": Count(7, 420)}))
            assert nft.counters("inet", "edgevirt")["nbu0x1"] == Count(7, 420)
            with pytest.raises(FilterError, match="cannot change the packet filter"):
                nft.apply([*ruleset(FILTER, {}), "add rule inet edgevirt nowhere drop"])
            assert nft.counters("inet", "edgevirt")["nbu0x1"] == Count(7, 420)
            nft.apply(ruleset(Filter(), {}))
            assert nft.counters("inet", "edgevirt") == {}
            nft.remove_table("inet", "edgevirt")
            nft.remove_table("bridge", "edgevirt")
            listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True)
            assert listed.stdout == ""
    finally:
        os.close(fd)
        namespace.drop_network_namespace(path)
