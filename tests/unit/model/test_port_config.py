"""A bad port spoils neither its config nor its neighbours, and its controller hears why."""

from __future__ import annotations

import pytest

from edgevirt.model.node import Port
from edgevirt.model.port_config import last_resort, port_config
from edgevirt.model.ports import Dhcp, PortConfig, PortNetwork, PortSource

LAN = PortNetwork(
    id="LAN", dhcp=Dhcp.STATIC, subnet="192.0.2.0/24", gateway="192.0.2.1", dns=("192.0.2.53",)
)
CLIENT = PortNetwork(id="client", mtu=1400, ntp=("pool.ntp.org",), domain="shop.example")


def made(*ports: Port, networks: tuple[PortNetwork, ...] = (LAN, CLIENT)) -> PortConfig:
    config = port_config(PortSource.CONTROLLER, 7.0, ports, networks)
    assert config is not None
    return config


def test_a_static_address_gets_the_prefix_of_its_subnet() -> None:
    (port,) = made(Port(name="wan", ifname="eth1", network="lan", address="192.0.2.7")).ports
    assert (port.name, port.ifname, port.trouble) == ("wan", "eth1", "")
    assert (port.address, port.gateway, port.dns) == ("192.0.2.7/24", "192.0.2.1", ("192.0.2.53",))


def test_a_port_by_dhcp_takes_what_its_network_adds() -> None:
    (port,) = made(Port(name="wan", ifname="eth1", network="client", cost=9)).ports
    assert (port.dhcp, port.mtu, port.domain) == (Dhcp.CLIENT, 1400, "shop.example")
    assert (port.cost, port.ntp) == (9, ("pool.ntp.org",))


def test_where_no_port_is_marked_for_management_all_are_at_no_cost() -> None:
    unmarked = (Port(name=name, ifname=name, uplink=False, cost=5) for name in ("a", "b"))
    assert [(port.management, port.cost) for port in made(*unmarked).ports] == [(True, 0)] * 2


def test_a_port_that_is_for_apps_alone_needs_no_address() -> None:
    _, port = made(Port(name="a", ifname="a"), Port(name="b", ifname="b", uplink=False)).ports
    assert (port.management, port.dhcp, port.trouble) == (False, Dhcp.NONE, "")


@pytest.mark.parametrize(
    ("port", "why"),
    [
        (Port(name="w", ifname="wlan0", type=5), "Wi-Fi is not supported yet"),
        (Port(name="w", ifname="wwan0", type=6), "a cellular modem is not supported yet"),
        (Port(name="w"), "a VLAN or bond is not supported yet"),
        (Port(name="w", rest_io=b"x"), "does not say which interface"),
        (Port(name="w", ifname="e", network="lost"), "its network lost is not in the config"),
        (Port(name="w", ifname="e", network="lan"), "it has no static address"),
        (Port(name="w", ifname="e", network="lan", address="10.0.0.1"), "is not in its subnet"),
        (Port(name="w", ifname="e", network="lan", address="me"), "'me' does not appear to be"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_others_go_on(port: Port, why: str) -> None:
    bad, good = made(port, Port(name="eth0", ifname="eth0")).ports
    assert bad.trouble.startswith("cannot use port w: ")
    assert why in bad.trouble
    assert good.trouble == ""


@pytest.mark.parametrize(
    "network",
    [
        PortNetwork(id="n", dhcp=Dhcp.NONE),
        PortNetwork(id="n", mtu=500),
        PortNetwork(id="n", dns=("dns.example",)),
        PortNetwork(id="n", dhcp=Dhcp.STATIC, subnet="192.0.2.0/24", gateway="no"),
    ],
)
def test_a_network_that_makes_no_sense_spoils_its_port_alone(network: PortNetwork) -> None:
    port = Port(name="w", ifname="e", network="n", address="192.0.2.7")
    assert made(port, networks=(network,)).ports[0].trouble


def test_no_ports_are_no_wish_to_have_none() -> None:
    assert port_config(PortSource.CONTROLLER, 7.0, (), ()) is None


def test_the_last_resort_is_every_interface_by_dhcp() -> None:
    ports = last_resort({"eth1", "eth0"}).ports
    assert [(port.ifname, port.dhcp, port.management) for port in ports] == [
        ("eth0", Dhcp.CLIENT, True),
        ("eth1", Dhcp.CLIENT, True),
    ]
