"""A port config in EVE's JSON form, as people have it on their sticks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model.ports import Dhcp, PortSource, ProxyServer
from edgevirt.wire.override import OVERRIDE_MAX, OverrideError, parse_override


def file(*ports: dict[str, object], **more: object) -> bytes:
    return json.dumps({"Version": 1, "Ports": ports, **more}).encode()


STATIC: dict[str, object] = {
    "AddrSubnet": "192.0.2.7/24",
    "Dhcp": 1,
    "DnsServers": ["192.0.2.53"],
    "DomainName": "shop.example",
    "Free": True,
    "Gateway": "192.0.2.1",
    "IfName": "eth0",
    "IsMgmt": True,
    "Name": "Management1",
    "NtpServer": "192.0.2.4",
    "Pacfile": "",
    "Proxies": None,
    "WirelessCfg": {"WType": 0},
}


def test_a_static_port_and_one_by_dhcp() -> None:
    second = {"Dhcp": 4, "Free": False, "IfName": "eth1", "Name": "Management2", "IsMgmt": True}
    found = parse_override(file(STATIC, second), 5.0)
    assert (found.source, found.priority) == (PortSource.OVERRIDE, 5.0)
    one, two = found.ports
    assert (one.name, one.ifname, one.address) == ("Management1", "eth0", "192.0.2.7/24")
    assert (one.gateway, one.dns, one.ntp) == ("192.0.2.1", ("192.0.2.53",), ("192.0.2.4",))
    assert (one.domain, one.proxy, one.cost) == ("shop.example", None, 0)
    assert (two.dhcp, two.cost, two.management) == (Dhcp.CLIENT, 1, True)


def test_a_port_for_a_switch_is_not_for_management() -> None:
    field = {"Dhcp": 0, "IfName": "eth1", "IsMgmt": False, "Name": "Field"}
    _, port = parse_override(file(STATIC, field), 5.0).ports
    assert (port.dhcp, port.management, port.trouble) == (Dhcp.NONE, False, "")


def test_its_own_time_counts_where_there_is_one() -> None:
    timed = file(STATIC, TimePriority="2024-02-03T04:05:06Z")
    assert parse_override(timed, 5.0).priority == 1_706_933_106.0


def test_proxies_are_kept() -> None:
    proxies = [{"Server": "proxy.example", "Port": 1080, "Type": 1}]
    port = {**STATIC, "Proxies": proxies, "Exceptions": "shop.example"}
    proxy = parse_override(file(port), 5.0).ports[0].proxy
    assert proxy is not None
    assert proxy.servers == (ProxyServer(protocol=1, server="proxy.example", port=1080),)


@pytest.mark.parametrize(
    ("port", "why"),
    [
        ({"IfName": "wlan0"}, "not supported yet"),
        ({**STATIC, "AddrSubnet": "192.0.2.7/99"}, "does not appear to be"),
        ({**STATIC, "Gateway": "gate"}, "'gate' does not appear"),
    ],
)
def test_a_port_that_cannot_be_used_says_why(port: dict[str, object], why: str) -> None:
    found = parse_override(file(port, {"IfName": "eth9"}), 5.0)
    assert why in found.ports[0].trouble
    assert found.ports[1].trouble == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"Ports": []}',
        file(),
        file({"Dhcp": 4}),
        file({"IfName": "eth0", "Dhcp": 77}),
        b" " * (OVERRIDE_MAX + 1),
        json.dumps({"Ports": [{"IfName": f"eth{n}"} for n in range(99)]}).encode(),
    ],
)
def test_what_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(OverrideError, match="cannot use the override: "):
        parse_override(raw, 5.0)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_is_too_strange(value: object) -> None:
    for key in ("Gateway", "AddrSubnet", "DnsServers", "Dhcp", "IfName"):
        try:
            parse_override(file({"IfName": "eth0", key: value}), 5.0)
        except OverrideError:
            continue
