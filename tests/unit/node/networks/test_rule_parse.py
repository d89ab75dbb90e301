"""Access rules: what is understood, and that what isn't never allows more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.host.net.spec import Rule
from edgevirt.model.network import Acl, AclAction
from edgevirt.node.networks.rule_parse import parse_rules
from tests.unit.node.networks.builders import allow, portmap


def test_every_match_is_carried_over() -> None:
    acl = allow(ip="192.0.2.7", protocol="TCP", lport="80", fport="1024")
    rules, trouble = parse_rules([acl])
    assert trouble == ""
    assert rules == (
        Rule(
            action=AclAction.ALLOW,
            remote="192.0.2.7/32",
            protocol=6,
            local_port=80,
            remote_port=1024,
        ),
    )


def test_a_port_map_leads_from_the_nodes_port_to_the_apps() -> None:
    (rule,), trouble = parse_rules([portmap(8080, 80, "udp")])
    assert trouble == ""
    assert (rule.node_port, rule.local_port, rule.protocol) == (8080, 80, 17)


def test_a_rule_about_ipv6_alone_says_nothing() -> None:
    assert parse_rules([allow(ip="::/0"), allow(ip="0.0.0.0/0")]) == (
        (Rule(action=AclAction.ALLOW, remote="0.0.0.0/0"),),
        "",
    )


@pytest.mark.parametrize(
    ("acl", "why"),
    [
        (allow(host="example.org"), "matching by host is not supported yet"),
        (allow(eidset=""), "matching by eidset is not supported yet"),
        (allow(adapter="eth1"), "matching by adapter is not supported yet"),
        (allow(colour="red"), "there is no match type 'colour'"),
        (Acl(id=1, matches=(("ip", "10.0.0.1"), ("ip", "10.0.0.2"))), "ip is given twice"),
        (allow(lport="80"), "ports need a protocol that has ports"),
        (allow(protocol="icmp", fport="80"), "ports need a protocol that has ports"),
        (allow(protocol="tcp", fport="0"), "fport '0' is not a port"),
        (allow(protocol="tcp", fport="65536"), "fport '65536' is not a port"),
        (allow(protocol="tcp", fport="٣"), "fport '٣' is not a port"),
        (allow(protocol="tcpp"), "there is no protocol 'tcpp'"),
        (allow(protocol="256"), "there is no protocol '256'"),
        (allow(ip="10.0.0.0/33"), "'10.0.0.0/33' is not an IP network"),
        (Acl(id=1, action=AclAction.LIMIT), "limits are not supported yet"),
        (portmap(8080, 0), "a port map needs the app's port, not 0"),
        (portmap(8080, 80, "icmp"), "ports need a protocol that has ports"),
        (portmap(8080, 80, "sctp"), "a port map needs the protocol tcp or udp"),
        (
            Acl(id=1, matches=(("protocol", "tcp"),), action=AclAction.PORTMAP, app_port=80),
            "a port map needs an lport, the node's port",
        ),
    ],
)
def test_what_is_wrong_is_said(acl: Acl, why: str) -> None:
    assert parse_rules([acl]) == ((), f"rule {acl.id}: {why}")


def test_a_bad_rule_ends_the_list() -> None:
    """The allow after a bad drop would open what the drop was to close."""
    bad = Acl(id=5, matches=(("host", "example.org"),), action=AclAction.DROP)
    rules, trouble = parse_rules([allow(ip="10.0.0.1"), bad, allow(ip="0.0.0.0/0")])
    assert [rule.remote for rule in rules] == ["10.0.0.1/32"]
    assert trouble.startswith("rule 5: ")


@given(
    st.lists(
        st.builds(
            Acl,
            id=st.integers(0, 9),
            matches=st.lists(
                st.tuples(
                    st.sampled_from(["ip", "protocol", "lport", "fport", "host"]) | st.text(),
                    st.sampled_from(["10.0.0.0/8", "tcp", "80", "::1", "-1", ""]) | st.text(),
                )
            ).map(tuple),
            action=st.sampled_from(AclAction),
            app_port=st.integers(-1, 70000),
        )
    )
)
def test_whatever_is_written_is_either_understood_or_explained(acls: list[Acl]) -> None:
    rules, trouble = parse_rules(acls)
    assert trouble or len(rules) <= len(acls)
    for rule in rules:
        assert 0 <= rule.local_port < 65536
        assert 0 <= rule.remote_port < 65536
        assert 0 <= rule.protocol < 256
        assert rule.action != AclAction.LIMIT
