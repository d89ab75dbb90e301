"""What dnsmasq is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgevirt.host.net.name_server import configuration, hosts, leases
from edgevirt.host.net.spec import Lease, NameServerSpec

SPEC = NameServerSpec(
    bridge="bn1",
    subnet="10.1.0.0/24",
    gateway="10.1.0.1",
    routed=True,
    domain="edge.local",
    ntp=("192.0.2.7",),
    upstream=("192.0.2.1",),
    names=(("router", ("10.1.0.1",)), ("db", ("10.1.0.3", "10.1.0.2"))),
    leases=(
        Lease(mac="02:00:00:00:00:03", ip="10.1.0.10", host="db"),
        Lease(mac="02:00:00:00:00:02", ip="10.1.0.9", host="web"),
    ),
)
FOLDER = Path("/run/node/networks/bn1")


def _lines(spec: NameServerSpec) -> list[str]:
    return configuration(spec, FOLDER).splitlines()


def test_it_serves_one_bridge_alone() -> None:
    lines = _lines(SPEC)
    assert "interface=bn1" in lines
    assert "bind-interfaces" in lines
    assert "except-interface=lo" in lines


def test_an_air_gapped_network_has_no_router_and_asks_no_one() -> None:
    lines = _lines(msgspec.structs.replace(SPEC, routed=False))
    assert "dhcp-option=option:router" in lines
    assert "dhcp-option=121,169.254.169.254/32,10.1.0.1" in lines
    assert "no-resolv" in lines
    assert not [line for line in lines if line.startswith(("server=", "resolv-file="))]


def test_without_servers_of_its_own_it_asks_the_machines() -> None:
    lines = _lines(msgspec.structs.replace(SPEC, upstream=()))
    assert "resolv-file=/etc/resolv.conf" in lines
    assert "no-resolv" not in lines


def test_names_and_leases_have_an_order_of_their_own() -> None:
    assert hosts(SPEC) == "10.1.0.1 router\n10.1.0.2 db\n10.1.0.3 db\n"
    assert leases(SPEC).splitlines() == [
        "02:00:00:00:00:02,10.1.0.9,web,60m",
        "02:00:00:00:00:03,10.1.0.10,db,60m",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        msgspec.structs.replace(SPEC, domain="a\nconf-file=/etc/shadow"),
        msgspec.structs.replace(SPEC, ntp=("192.0.2.7\nserver=1.1.1.1",)),
        msgspec.structs.replace(SPEC, upstream=("192.0.2.7#99",)),
        msgspec.structs.replace(SPEC, names=(("a b", ("10.1.0.2",)),)),
        msgspec.structs.replace(SPEC, leases=(Lease(mac="", ip="10.1.0.2", host="x"),)),
        msgspec.structs.replace(
            SPEC, leases=(Lease(mac="02:00:00:00:00:03", ip="10.1.0.2", host="x,60m"),)
        ),
    ],
)
def test_nothing_gets_into_the_configuration_that_is_no_name_or_address(
    spec: NameServerSpec,
) -> None:
    with pytest.raises(ValueError, match=r"is not a|octets|permitted"):
        _ = configuration(spec, FOLDER), hosts(spec), leases(spec)
