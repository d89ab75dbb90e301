"""Reading the kernel's socket tables."""

from __future__ import annotations

from edgevirt.host.net.listeners import parse_sockets
from edgevirt.host.net.spec import Listener

_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def test_only_sockets_that_wait_for_strangers_count() -> None:
    table = _HEAD + (
        "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
        "   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
        "   2: 020200C0:1F92 010200C0:D431 01 00000000:00000000 00:00000000 00000000     0\n"
    )
    assert parse_sockets(table, 6) == {Listener(protocol=6, address="0.0.0.0", port=8080)}


def test_a_connected_udp_socket_takes_nothing_from_others() -> None:
    table = _HEAD + (
        "   0: 020200C0:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0\n"
        "   1: 020200C0:0036 010200C0:0035 01 00000000:00000000 00:00000000 00000000     0\n"
    )
    assert parse_sockets(table, 17) == {Listener(protocol=17, address="192.0.2.2", port=53)}


def test_ipv6_sockets_count_where_they_take_ipv4() -> None:
    zero = "0" * 32
    mapped = "0000000000000000FFFF0000020200C0"
    other = "B80D0120000000000000000001000000"
    table = _HEAD + "".join(
        f"   {n}: {address}:005{n} {zero}:0000 0A 00000000:00000000 00:00000000 00000000 0\n"
        for n, address in enumerate((zero, mapped, other))
    )
    assert parse_sockets(table, 6) == {
        Listener(protocol=6, address="0.0.0.0", port=0x50),
        Listener(protocol=6, address="192.0.2.2", port=0x51),
    }
