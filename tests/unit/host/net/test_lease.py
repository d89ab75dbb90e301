"""What a DHCP server says is judged before an interface gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.host.net.lease import BadLease, Lease, parse


def record(event: str = "bound", **fields: str) -> bytes:
    said = {"event": event, "ip": "192.0.2.7", "prefix": "24", **fields}
    return b"".join(f"{name}={value}\0".encode() for name, value in said.items()) + b"\0"


def test_a_lease_is_read_whole() -> None:
    said = record(
        router="192.0.2.1 192.0.2.2", dns="192.0.2.53 9.9.9.9", ntp="192.0.2.4", domain="a.example"
    )
    assert parse(said) == Lease(
        address="192.0.2.7/24",
        router="192.0.2.1",
        dns=("192.0.2.53", "9.9.9.9"),
        ntp=("192.0.2.4",),
        domain="a.example",
    )


@pytest.mark.parametrize("event", ["deconfig", "leasefail", "nak", "other"])
def test_any_other_event_means_that_there_is_no_lease(event: str) -> None:
    assert parse(record(event)) is None


@pytest.mark.parametrize(
    ("routes", "router"),
    [("0.0.0.0/0 192.0.2.9", "192.0.2.9"), ("10.0.0.0/8 192.0.2.3", ""), ("x", "")],
)
def test_classless_routes_take_the_place_of_the_router(routes: str, router: str) -> None:
    lease = parse(record(router="192.0.2.1", routes=routes))
    assert lease is not None
    assert lease.router == router


@pytest.mark.parametrize(
    "fields", [{"ip": "127.0.0.1"}, {"ip": "224.0.0.1"}, {"ip": "x"}, {"prefix": "99"}]
)
def test_an_address_that_no_interface_can_have_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(BadLease):
        parse(record(**fields))


def test_servers_and_domains_that_are_none_are_left_out() -> None:
    lease = parse(record(dns="evil 0.0.0.0 192.0.2.5", domain="a\nnameserver 6.6.6.6", router="$x"))
    assert lease == Lease(address="192.0.2.7/24", dns=("192.0.2.5",))


@given(st.binary(max_size=300))
def test_whatever_a_server_says_there_is_a_lease_a_refusal_or_none(noise: bytes) -> None:
    try:
        lease = parse(record(dns="") + noise)
    except BadLease:
        return
    assert lease is None or "/" in lease.address
