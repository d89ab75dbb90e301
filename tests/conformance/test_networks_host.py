"""The laws of the Network protocol, on the real adapter: kernel, nft and dnsmasq in a world of
network namespaces."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from edgevirt.host.net.network import CAPABILITIES, LinuxNetwork, Network, NetworkError
from edgevirt.host.net.spec import (
    BridgeSpec,
    Filter,
    FilterLink,
    GuestSpec,
    Lease,
    LinkSpec,
    NameServerSpec,
    Rule,
    Zone,
)
from edgevirt.host.rights import namespace
from edgevirt.model.network import AclAction
from tests.parts.netlab import (
    NODE_ADDRESS,
    OUTSIDE_ADDRESS,
    PATIENCE,
    SILENCE,
    Lab,
    addresses,
    dhcp_lease,
    interfaces,
    netlink,
    open_lab,
    refused,
    resolve,
    resolves,
    talks,
    talks_udp,
)

pytestmark = pytest.mark.root

BRIDGE = BridgeSpec(
    name="bn1",
    owner="instance-1",
    mac="02:16:3e:06:00:01",
    subnet="10.1.0.0/24",
    gateway="10.1.0.1",
    uplink="eth0",
)
ZONE = Zone(bridge="bn1", subnet="10.1.0.0/24", gateway="10.1.0.1", uplink="eth0")
ALLOW_ALL = Rule(action=AclAction.ALLOW, remote="0.0.0.0/0")
NAMES = NameServerSpec(
    bridge="bn1",
    subnet="10.1.0.0/24",
    gateway="10.1.0.1",
    routed=True,
    domain="edge.local",
    mtu=1500,
    ntp=("192.0.2.7",),
    upstream=(OUTSIDE_ADDRESS,),
    names=(("router", ("10.1.0.1",)), ("web", ("10.1.0.2",)), ("printer.lan", ("10.9.9.9",))),
    leases=(Lease(mac="02:00:00:00:00:02", ip="10.1.0.2", host="web"),),
)


def link(number: int, index: int = 0) -> LinkSpec:
    return LinkSpec(
        name=f"eth{index}",
        host_name=f"nbu{index}x{number}",
        bridge="bn1",
        mac=f"02:00:00:00:0{index}:{number:02x}",
        ip=f"10.1.0.{number}",
        prefix=24,
        gateway="10.1.0.1",
    )


def guest(number: int) -> GuestSpec:
    return GuestSpec(id=f"app-{number}", links=(link(number),))


def guarded(number: int, *rules: Rule) -> FilterLink:
    own = link(number)
    return FilterLink(
        host_name=own.host_name, bridge=own.bridge, mac=own.mac, ip=own.ip, rules=rules
    )


def allow(remote: str = "", protocol: int = 0, local: int = 0, port: int = 0) -> Rule:
    return Rule(
        action=AclAction.ALLOW,
        remote=remote,
        protocol=protocol,
        local_port=local,
        remote_port=port,
    )


def drop(remote: str) -> Rule:
    return Rule(action=AclAction.DROP, remote=remote)


def portmap(node_port: int, app_port: int, protocol: int = 6, remote: str = "") -> Rule:
    return Rule(
        action=AclAction.PORTMAP,
        protocol=protocol,
        node_port=node_port,
        local_port=app_port,
        remote=remote,
    )


def attribute(interface: str, name: str) -> object:
    index = interfaces()[interface]
    return netlink(lambda route: route.get_links(index)[0].get_attr(name))


def mac(interface: str) -> object:
    return attribute(interface, "IFLA_ADDRESS")


def default_routes() -> int:
    return netlink(lambda route: len(list(route.get_default_routes(family=socket.AF_INET))))


def add_address(interface: str, address: str) -> None:
    index = interfaces()[interface]
    netlink(lambda route: route.addr("add", index=index, address=address, prefixlen=24))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with open_lab() as lab:
        yield lab


@pytest_asyncio.fixture
async def network(lab: Lab) -> AsyncIterator[Network]:
    real = LinuxNetwork(lab.namespaces, lab.name_servers)
    await real.prepare()
    try:
        yield real
    finally:
        for bridge in await real.name_servers():
            await real.remove_name_server(bridge)
        for name in await real.guests():
            await real.remove_guest(name)
        await real.close()


async def two_guests(network: Network, *links: FilterLink) -> None:
    await network.ensure_bridge(BRIDGE)
    await network.apply_filter(Filter(zones=(ZONE,), links=links))
    await network.ensure_guest(guest(2))
    await network.ensure_guest(guest(3))


# -- what is there, and taking it over --


async def test_what_is_made_is_found_by_its_owner(network: Network) -> None:
    await two_guests(network)
    await network.ensure_name_server(NAMES)
    assert await network.bridges() == {"instance-1": "bn1"}
    assert await network.guests() == {"app-2", "app-3"}
    assert await network.name_servers() == {"bn1"}


async def test_ensuring_again_leaves_everything_as_it_is(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL), guarded(3, ALLOW_ALL))
    pid = await network.ensure_name_server(NAMES)
    before = interfaces()
    with lab.guest("app-3"):
        lab.echo(80)
    with lab.guest("app-2"):
        connection = socket.create_connection(("10.1.0.3", 80), timeout=PATIENCE)
    again = LinuxNetwork(lab.namespaces, lab.name_servers)
    await again.prepare()
    await two_guests(again, guarded(2, ALLOW_ALL), guarded(3, ALLOW_ALL))
    assert await again.ensure_name_server(NAMES) == pid
    assert interfaces() == before
    connection.sendall(b"still")
    assert connection.recv(100) == b"still"
    connection.close()
    await again.close()


async def test_removing_leaves_nothing(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    pid = await network.ensure_name_server(NAMES)
    for _ in range(2):
        await network.remove_guest("app-2")
        await network.remove_guest("app-3")
        await network.remove_name_server("bn1")
        await network.remove_bridge("instance-1")
    assert await network.guests() == frozenset()
    assert await network.bridges() == {}
    assert await network.name_servers() == frozenset()
    assert list(lab.namespaces.iterdir()) == []
    assert (
        not Path(f"/proc/{pid}").exists()
        or b"dnsmasq" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    assert set(interfaces()) == {"lo", "eth0"}


async def test_a_guest_whose_process_lives_on_is_cut_off(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    with lab.guest("app-2"):
        process = subprocess.Popen(["sleep", "60"])
    await network.remove_guest("app-2")
    interfaces = Path(f"/proc/{process.pid}/net/dev").read_text()
    process.kill()
    process.wait()
    assert "eth0" not in interfaces


async def test_a_bridge_of_another_owner_is_not_taken_over(network: Network) -> None:
    await network.ensure_bridge(BRIDGE)
    other = BridgeSpec(
        name="bn1",
        owner="instance-2",
        mac="02:16:3e:06:00:01",
        subnet="10.2.0.0/24",
        gateway="10.2.0.1",
    )
    await network.ensure_bridge(other)
    assert await network.bridges() == {"instance-2": "bn1"}
    await network.remove_bridge("instance-1")
    assert await network.bridges() == {"instance-2": "bn1"}


async def test_a_subnet_of_the_node_itself_is_no_network_for_guests(network: Network) -> None:
    taken = msgspec.structs.replace(BRIDGE, subnet="192.0.0.0/16", gateway="192.0.0.1")
    why = r"cannot make bridge bn1: its subnet 192.0.0.0/16 overlaps 192.0.2.2/24 of eth0"
    with pytest.raises(NetworkError, match=why):
        await network.ensure_bridge(taken)
    assert await network.bridges() == {}


async def test_a_guest_waits_for_its_bridge(network: Network) -> None:
    with pytest.raises(NetworkError, match=r"cannot connect app-2: .*bn1"):
        await network.ensure_guest(guest(2))


async def test_changed_addresses_and_interfaces_are_applied(lab: Lab, network: Network) -> None:
    await two_guests(network)
    changed = LinkSpec(
        name="eth0",
        host_name="nbu0x2",
        bridge="bn1",
        mac="02:00:00:00:00:99",
        ip="10.1.0.99",
        prefix=24,
        gateway="10.1.0.1",
        default_route=False,
    )
    await network.ensure_guest(GuestSpec(id="app-2", links=(changed, link(2, index=1))))
    with lab.guest("app-2"):
        assert addresses("eth0") == {"10.1.0.99"}
        assert addresses("eth1") == {"10.1.0.2"}
        assert mac("eth0") == "02:00:00:00:00:99"
        assert default_routes() == 0
    await network.ensure_guest(guest(2))
    with lab.guest("app-2"):
        assert set(interfaces()) == {"lo", "eth0"}
        assert default_routes() == 1


async def test_the_mtu_is_never_more_than_the_uplinks(lab: Lab, network: Network) -> None:
    eth0 = interfaces()["eth0"]
    netlink(lambda route: route.link("set", index=eth0, mtu=1400))
    facts = await network.ensure_bridge(BRIDGE)
    assert facts.mtu == 1400
    await network.ensure_guest(guest(2))
    with lab.guest("app-2"):
        assert attribute("eth0", "IFLA_MTU") == 1400


# -- what guests may send and get --


async def test_nothing_passes_without_a_rule(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2), guarded(3, ALLOW_ALL))
    for space in (lab.guest("app-2"), lab.guest("app-3"), lab.beyond()):
        with space:
            lab.echo(80)
    with lab.guest("app-2"):
        assert refused("10.1.0.3", 80)
        assert refused(OUTSIDE_ADDRESS, 80)
    with lab.guest("app-3"):
        assert refused("10.1.0.2", 80)
        assert talks(OUTSIDE_ADDRESS, 80)


async def test_nothing_passes_before_the_filter_knows_a_guest(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(3, ALLOW_ALL))
    with lab.guest("app-3"):
        lab.echo(80)
    with lab.guest("app-2"):
        assert refused("10.1.0.3", 80)
        assert refused(NODE_ADDRESS, 80)


async def test_guests_that_both_allow_it_talk(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, allow("10.1.0.3/32")), guarded(3, allow(protocol=6)))
    with lab.guest("app-3"):
        server = lab.echo(80)
    with lab.guest("app-2"):
        assert talks("10.1.0.3", 80)
        assert not talks_udp("10.1.0.3", 80, SILENCE)
    assert server.peers == ["10.1.0.2"]


async def test_rules_match_address_protocol_and_ports(lab: Lab, network: Network) -> None:
    await two_guests(
        network,
        guarded(2, allow(OUTSIDE_ADDRESS + "/32", protocol=6, port=80), allow(protocol=17)),
        guarded(3, allow(protocol=6, local=81)),
    )
    with lab.beyond():
        for port in (80, 81):
            lab.echo(port)
    with lab.guest("app-2"):
        assert talks(OUTSIDE_ADDRESS, 80)
        assert refused(OUTSIDE_ADDRESS, 81)
        assert talks_udp(OUTSIDE_ADDRESS, 81)
    with lab.guest("app-3"):
        assert refused(OUTSIDE_ADDRESS, 80)


async def test_the_first_rule_that_matches_decides(lab: Lab, network: Network) -> None:
    await two_guests(
        network,
        guarded(2, drop(OUTSIDE_ADDRESS + "/32"), ALLOW_ALL),
        guarded(3, ALLOW_ALL, drop(OUTSIDE_ADDRESS + "/32")),
    )
    with lab.beyond():
        lab.echo(80)
    with lab.guest("app-2"):
        assert refused(OUTSIDE_ADDRESS, 80)
    with lab.guest("app-3"):
        assert talks(OUTSIDE_ADDRESS, 80)


async def test_guests_go_out_under_the_nodes_address(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    with lab.beyond():
        server = lab.echo(80)
    with lab.guest("app-2"):
        assert talks(OUTSIDE_ADDRESS, 80)
    assert server.peers == [NODE_ADDRESS]


async def test_an_air_gapped_guest_stays_inside(lab: Lab, network: Network) -> None:
    await network.ensure_bridge(BRIDGE)
    zone = Zone(bridge="bn1", subnet="10.1.0.0/24", gateway="10.1.0.1")
    await network.apply_filter(Filter(zones=(zone,), links=(guarded(2, ALLOW_ALL),)))
    await network.ensure_guest(guest(2))
    with lab.beyond():
        lab.echo(80)
    with lab.guest("app-2"):
        assert refused(OUTSIDE_ADDRESS, 80)


async def test_a_guest_does_not_reach_another_networks_guests(lab: Lab, network: Network) -> None:
    await network.ensure_bridge(BRIDGE)
    other = BridgeSpec(
        name="bn2",
        owner="instance-2",
        mac="02:16:3e:06:00:02",
        subnet="10.2.0.0/24",
        gateway="10.2.0.1",
        uplink="eth0",
    )
    await network.ensure_bridge(other)
    far = LinkSpec(
        name="eth0",
        host_name="nbu0x9",
        bridge="bn2",
        mac="02:00:00:00:00:09",
        ip="10.2.0.9",
        prefix=24,
        gateway="10.2.0.1",
    )
    zone = Zone(bridge="bn2", subnet="10.2.0.0/24", gateway="10.2.0.1", uplink="eth0")
    door = FilterLink(host_name="nbu0x9", bridge="bn2", mac=far.mac, ip=far.ip, rules=(ALLOW_ALL,))
    await network.apply_filter(Filter(zones=(ZONE, zone), links=(guarded(2, ALLOW_ALL), door)))
    await network.ensure_guest(guest(2))
    await network.ensure_guest(GuestSpec(id="app-9", links=(far,)))
    with lab.guest("app-9"):
        lab.echo(80)
    with lab.guest("app-2"):
        assert refused("10.2.0.9", 80)


async def test_a_guest_reaches_no_service_of_the_node(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    lab.echo(9000)
    with lab.guest("app-2"):
        assert refused("10.1.0.1", 9000)
        assert refused(NODE_ADDRESS, 9000)


async def test_a_port_map_leads_in_from_outside(lab: Lab, network: Network) -> None:
    await two_guests(
        network, guarded(2, portmap(8080, 80), portmap(8053, 53, protocol=17)), guarded(3)
    )
    with lab.guest("app-2"):
        server = lab.echo(80)
        lab.echo(53)
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)
        assert talks_udp(NODE_ADDRESS, 8053)
        assert refused(NODE_ADDRESS, 80)
    assert server.peers == [OUTSIDE_ADDRESS]


async def test_a_port_map_gives_the_guest_no_way_out(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, portmap(8080, 80)))
    with lab.beyond():
        lab.echo(80)
        lab.echo(8080)
        netlink(lambda route: route.route("add", dst="10.1.0.0/24", gateway=NODE_ADDRESS))
    with lab.guest("app-2"):
        lab.echo(80)
        assert refused(OUTSIDE_ADDRESS, 8080)
    with lab.beyond():
        assert refused("10.1.0.2", 80)


async def test_an_address_leads_to_its_new_guest_at_once(lab: Lab, network: Network) -> None:
    first = guarded(2, portmap(8080, 80))
    await two_guests(network, first, guarded(3))
    with lab.guest("app-2"):
        lab.echo(80)
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)
    await network.remove_guest("app-2")
    heir = msgspec.structs.replace(link(2), mac="02:00:00:00:00:ff", host_name="nbu0x4")
    guard = msgspec.structs.replace(first, mac=heir.mac, host_name=heir.host_name)
    await network.apply_filter(Filter(zones=(ZONE,), links=(guard, guarded(3))))
    await network.ensure_guest(GuestSpec(id="app-4", links=(heir,)))
    with lab.guest("app-4"):
        lab.echo(80)
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)


async def test_a_port_map_for_some_is_closed_to_others(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, portmap(8080, 80, remote="192.0.2.128/25")))
    with lab.guest("app-2"):
        lab.echo(80)
    with lab.beyond():
        assert refused(NODE_ADDRESS, 8080)
        add_address("eth0", "192.0.2.200")
        with socket.create_connection(
            (NODE_ADDRESS, 8080), timeout=PATIENCE, source_address=("192.0.2.200", 0)
        ) as connection:
            connection.sendall(b"hi")
            assert connection.recv(10) == b"hi"


async def test_a_client_that_never_pauses_follows_its_port(lab: Lab, network: Network) -> None:
    """UDP from one socket, before the port is mapped and after it went to another guest."""
    await two_guests(network)
    for name in ("app-2", "app-3"):
        with lab.guest(name):
            lab.echo(53)
    with lab.beyond():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((NODE_ADDRESS, 8053))

    async def answered(*links: FilterLink, within: float = PATIENCE) -> bool:
        await network.apply_filter(Filter(zones=(ZONE,), links=links))
        client.settimeout(within)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            client.send(b"hi")
            return client.recv(10) == b"hi"
        return False

    way_in = portmap(8053, 53, protocol=17)
    assert not await answered(guarded(2), guarded(3), within=SILENCE)
    assert await answered(guarded(2, way_in), guarded(3))
    assert await answered(guarded(2), guarded(3, way_in))
    assert not await answered(guarded(2), guarded(3), within=SILENCE)
    client.close()


async def test_changed_rules_spare_what_is_still_allowed(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    with lab.beyond():
        for port in (80, 81):
            lab.echo(port)
    with lab.guest("app-2"):
        kept = socket.create_connection((OUTSIDE_ADDRESS, 80), timeout=PATIENCE)
        cut = socket.create_connection((OUTSIDE_ADDRESS, 81), timeout=PATIENCE)
    rules = guarded(2, allow(protocol=6, port=80))
    await network.apply_filter(Filter(zones=(ZONE,), links=(rules,)))
    for connection, patience in ((kept, PATIENCE), (cut, SILENCE)):
        connection.settimeout(patience)
        connection.sendall(b"more")
    assert kept.recv(10) == b"more"
    with pytest.raises(TimeoutError):
        cut.recv(10)
    kept.close()
    cut.close()


async def test_dropped_packets_are_counted_across_changes(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2), guarded(3))
    with lab.guest("app-2"):
        talks_udp(OUTSIDE_ADDRESS, 99, timeout=0.1)
        talks_udp(NODE_ADDRESS, 99, timeout=0.1)
    first = (await network.drops())["nbu0x2"]
    assert first >= 2
    await network.apply_filter(Filter(zones=(ZONE,), links=(guarded(2), guarded(3))))
    assert (await network.drops())["nbu0x2"] >= first
    assert (await network.drops())["nbu0x3"] == 0


async def test_counters_tell_what_a_guest_sent(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL))
    before = (await network.counters())["nbu0x2"]
    with lab.guest("app-2"):
        talks_udp(OUTSIDE_ADDRESS, 99, timeout=0.1)
    after = (await network.counters())["nbu0x2"]
    assert after.rx_packets > before.rx_packets
    assert after.rx_bytes >= before.rx_bytes + 5 + 28


async def test_a_false_source_address_is_dropped(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL), guarded(3, ALLOW_ALL))
    with lab.beyond():
        server = lab.echo(80)
    with lab.guest("app-3"):
        add_address("eth0", "10.1.0.77")
        for source in ("10.1.0.3", "10.1.0.77"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((source, 0))
                sender.settimeout(PATIENCE if source == "10.1.0.3" else SILENCE)
                sender.sendto(b"hi", (OUTSIDE_ADDRESS, 80))
                if source == "10.1.0.3":
                    assert sender.recv(10) == b"hi"
                else:
                    with pytest.raises(TimeoutError):
                        sender.recv(10)
    assert len(server.peers) == 1


async def test_a_guest_cannot_claim_anothers_addresses(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL), guarded(3, ALLOW_ALL))
    with lab.guest("app-2"):
        lab.echo(80)
    with lab.beyond():
        victim = lab.echo(80)
    with lab.guest("app-3"):
        eth0 = interfaces()["eth0"]
        netlink(lambda route: route.link("set", index=eth0, address="02:00:00:00:00:02"))
        assert refused(OUTSIDE_ADDRESS, 80)
        netlink(lambda route: route.link("set", index=eth0, address="02:00:00:00:00:03"))
        assert talks(OUTSIDE_ADDRESS, 80)
        add_address("eth0", "10.1.0.2")
        assert refused(OUTSIDE_ADDRESS, 80, source="10.1.0.2")
    assert len(victim.peers) == 1
    with lab.guest("app-2"):
        assert talks(OUTSIDE_ADDRESS, 80)


async def test_a_guest_cannot_answer_arp_for_another(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2, ALLOW_ALL), guarded(3, ALLOW_ALL))
    with lab.beyond():
        lab.echo(80)
    own, victim, gateway = (socket.inet_aton(f"10.1.0.{n}") for n in (3, 2, 1))
    mac, everyone = bytes.fromhex("020000000003"), b"\xff" * 6
    with lab.guest("app-3"):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(("eth0", 0))
        for claimed in (victim, gateway):
            for operation in (b"\0\1", b"\0\2"):
                arp = b"\0\1\x08\0\6\4" + operation + mac + claimed + everyone + gateway
                raw.send(everyone + mac + b"\x08\x06" + arp)
        raw.close()
    neighbours = netlink(
        lambda route: {
            k.get_attr("NDA_DST"): k.get_attr("NDA_LLADDR")
            for k in route.get_neighbours(family=socket.AF_INET)
        }
    )
    assert socket.inet_ntoa(victim) not in neighbours
    with lab.guest("app-2"):
        assert talks(OUTSIDE_ADDRESS, 80)
    with lab.guest("app-3"):
        assert talks(OUTSIDE_ADDRESS, 80, source=socket.inet_ntoa(own))


# -- names and leases --


async def test_names_are_answered_without_the_outside(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(3))
    await network.ensure_name_server(NAMES)
    with lab.guest("app-3"):
        assert resolve("10.1.0.1", "web") == ["10.1.0.2"]
        assert resolve("10.1.0.1", "web.edge.local") == ["10.1.0.2"]
        assert resolve("10.1.0.1", "router") == ["10.1.0.1"]
        assert resolve("10.1.0.1", "printer.lan") == ["10.9.9.9"]
        assert resolve("10.1.0.1", "nobody.edge.local") == []


async def test_a_new_name_is_told_to_the_server_that_runs(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(3))
    pid = await network.ensure_name_server(NAMES)
    names = (*NAMES.names, ("db", ("10.1.0.50",)))
    more = msgspec.structs.replace(
        NAMES,
        names=names,
        leases=(Lease(mac="02:00:00:00:00:03", ip="10.1.0.3", host="db"),),
    )
    assert await network.ensure_name_server(more) == pid
    with lab.guest("app-3"):
        assert resolves("10.1.0.1", "db", "10.1.0.50")
        assert dhcp_lease(lab.directory)["ip"] == "10.1.0.3"


async def test_other_names_are_asked_outside(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(3))
    await network.ensure_name_server(NAMES)
    with lab.beyond():
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        upstream.bind((OUTSIDE_ADDRESS, 53))
        upstream.settimeout(PATIENCE)
    with lab.guest("app-3"), contextlib.suppress(TimeoutError):
        resolve("10.1.0.1", "example.org", timeout=0.2)
    question, peer = upstream.recvfrom(1000)
    upstream.close()
    assert b"\x07example\x03org" in question
    assert peer[0] == NODE_ADDRESS


async def test_a_guest_gets_its_lease_and_a_stranger_none(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2), guarded(3))
    await network.ensure_name_server(NAMES)
    with lab.guest("app-2"):
        lease = dhcp_lease(lab.directory)
    assert lease["ip"] == "10.1.0.2"
    assert lease["router"] == "10.1.0.1"
    assert lease["dns"] == "10.1.0.1"
    assert lease["lease"] == "3600"
    assert lease["mtu"] == "1500"
    assert lease["ntpsrv"] == "192.0.2.7"
    assert lease["staticroutes"] == "169.254.169.254/32 10.1.0.1 0.0.0.0/0 10.1.0.1"
    with lab.guest("app-3"):
        assert dhcp_lease(lab.directory, tries=2) == {}


async def test_an_address_that_another_guest_had_goes_to_the_one_that_is_to_have_it(
    lab: Lab, network: Network
) -> None:
    await two_guests(network, guarded(2), guarded(3))
    await network.ensure_name_server(NAMES)
    with lab.guest("app-2"):
        assert dhcp_lease(lab.directory)["ip"] == "10.1.0.2"
    heir = Lease(mac="02:00:00:00:00:03", ip="10.1.0.2", host="web")
    pid = await network.ensure_name_server(msgspec.structs.replace(NAMES, leases=(heir,)))
    with lab.guest("app-3"):
        assert dhcp_lease(lab.directory)["ip"] == "10.1.0.2"
        assert resolve("10.1.0.1", "web") == ["10.1.0.2"]
    again = msgspec.structs.replace(NAMES, leases=(heir,))
    assert await network.ensure_name_server(again) == pid  # it is left alone from then on


async def test_what_a_service_that_died_did_not_tell_is_told_by_the_next(
    lab: Lab, network: Network
) -> None:
    """Between the writing and the signal."""
    await two_guests(network, guarded(3))
    pid = await network.ensure_name_server(NAMES)
    late = Lease(mac="02:00:00:00:00:03", ip="10.1.0.3", host="db")
    leases = next(lab.directory.rglob("bn1/leases"))
    leases.write_text(f"{leases.read_text()}{late.mac},{late.ip},{late.host},60m\n")
    more = msgspec.structs.replace(NAMES, leases=(*NAMES.leases, late))
    successor = LinuxNetwork(lab.namespaces, lab.name_servers)
    assert await successor.ensure_name_server(more) == pid
    await successor.close()
    with lab.guest("app-3"):
        assert dhcp_lease(lab.directory)["ip"] == "10.1.0.3"


async def test_a_dead_name_server_is_replaced(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(3))
    pid = await network.ensure_name_server(NAMES)
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    ended = select.poll()
    ended.register(process, select.POLLIN)
    assert ended.poll(PATIENCE * 1000)
    os.close(process)
    assert await network.ensure_name_server(NAMES) != pid
    with lab.guest("app-3"):
        assert resolve("10.1.0.1", "web") == ["10.1.0.2"]


async def test_a_changed_configuration_takes_effect(lab: Lab, network: Network) -> None:
    await two_guests(network, guarded(2))
    pid = await network.ensure_name_server(NAMES)
    gapped = NameServerSpec(
        bridge="bn1",
        subnet=NAMES.subnet,
        gateway=NAMES.gateway,
        routed=False,
        mtu=1280,
        leases=NAMES.leases,
    )
    assert await network.ensure_name_server(gapped) != pid
    with lab.guest("app-2"):
        lease = dhcp_lease(lab.directory)
    assert lease["mtu"] == "1280"
    assert "router" not in lease


async def test_the_name_server_runs_with_three_capabilities(network: Network) -> None:
    await two_guests(network)
    pid = await network.ensure_name_server(NAMES)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    net_bind_admin_raw = (1 << 10) | (1 << 12) | (1 << 13)
    assert int(status["CapEff"], 16) == net_bind_admin_raw
    assert int(status["CapBnd"], 16) == net_bind_admin_raw
    assert status["NoNewPrivs"] == "1"
    assert "0" not in status["Uid"].split("\t")


async def test_a_name_server_that_cannot_start_says_why(network: Network) -> None:
    await network.ensure_bridge(BRIDGE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("10.1.0.1", 53))
        with pytest.raises(NetworkError, match=r"cannot start the name server of bn1: .*in use"):
            await network.ensure_name_server(NAMES)


async def test_listening_sockets_are_seen(lab: Lab, network: Network) -> None:
    lab.echo(8080)
    lab.echo(8081, "127.0.0.1")
    lab.echo(8082, NODE_ADDRESS)
    seen = {(item.protocol, item.address, item.port) for item in await network.listeners()}
    assert seen == {
        (6, "0.0.0.0", 8080),
        (17, "0.0.0.0", 8080),
        (6, NODE_ADDRESS, 8082),
        (17, NODE_ADDRESS, 8082),
    }


# -- rights --

_UID = 64107
_CONFINED = """
import asyncio, ctypes, os, struct, sys
from pathlib import Path
from edgevirt.host.rights.confine import CAPABILITIES as NUMBERS
from edgevirt.host.net.network import CAPABILITIES, LinuxNetwork
from tests.conformance import test_networks_host as laws

directory, lacking = Path(sys.argv[1]), set(sys.argv[2:])
for name in ("netns", "networks"):
    (directory / name).mkdir()
    os.chown(directory / name, laws._UID, laws._UID)

async def main():
    network = LinuxNetwork(directory / "netns", directory / "networks")
    await network.prepare()
    await laws.two_guests(network, laws.guarded(2, laws.ALLOW_ALL))
    pid = await network.ensure_name_server(laws.NAMES)
    assert await network.ensure_name_server(laws.OTHER_NAMES) == pid
    await network.drops(), await network.counters(), await network.listeners()
    await network.apply_filter(laws.Filter())
    await network.remove_name_server("bn1")
    for name in await network.guests():
        await network.remove_guest(name)
    await network.remove_bridge("instance-1")
    assert not await network.guests()

libc = ctypes.CDLL(None)
numbers = [NUMBERS[name] for name in CAPABILITIES - lacking]
mask = sum(1 << number for number in numbers)
assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
os.setgroups([])
os.setresgid(laws._UID, laws._UID, laws._UID)
os.setresuid(laws._UID, laws._UID, laws._UID)
low, high = mask & 0xFFFFFFFF, mask >> 32
sets = struct.pack("<6I", low, low, low, high, high, high)
assert libc.capset(struct.pack("<Ii", 0x20080522, 0), sets) == 0
for number in numbers:
    assert libc.prctl(47, 2, number, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
os.umask(0o022)
asyncio.run(main())
"""
OTHER_NAMES = msgspec.structs.replace(NAMES, names=(("x", ("10.1.0.77",)),), leases=())


def _confined(lab: Lab, lacking: str = "") -> subprocess.CompletedProcess[str]:
    place = lab.directory / "confined"
    place.mkdir(mode=0o755)
    try:
        return subprocess.run(
            [sys.executable, "-c", _CONFINED, str(place), *([lacking] if lacking else [])],
            env={**os.environ, "PYTHONPATH": "src:."},
            capture_output=True,
            text=True,
        )
    finally:
        for pid in place.glob("networks/*/state/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
        for guest in place.glob("netns/*"):
            namespace.drop_network_namespace(guest)


def test_a_user_with_these_capabilities_can_do_it_all(lab: Lab) -> None:
    done = _confined(lab)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lacking", sorted(CAPABILITIES))
def test_none_of_the_capabilities_is_too_much(lab: Lab, lacking: str) -> None:
    done = _confined(lab, lacking)
    assert done.returncode == 1
    assert "NetworkError" in done.stderr
