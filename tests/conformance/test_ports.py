"""The laws of the Ports protocol: the kernel with a real DHCP server, and the fake."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from msgspec.structs import replace

from edgevirt.host.fakes.ports import Cable, FakePorts
from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.lease import Lease
from edgevirt.host.net.names import Names
from edgevirt.host.net.ports import AdoptedPorts, LinuxPorts, Ports, Setup
from edgevirt.host.processes import identify
from tests.parts.netlab import OUTSIDE_ADDRESS, Lab, interfaces, netlink, open_lab

LEASED = "192.0.2.77/24"
BY_DHCP = Setup(interface="eth0", dhcp=True)
STATIC = Setup(
    interface="eth0", address="192.0.2.9/24", gateway=OUTSIDE_ADDRESS, dns=("9.9.9.9",), mtu=1400
)


@dataclass
class World:
    """Ports whose `eth0` leads to a DHCP server. `plug`: whether its cable is in."""

    ports: Ports
    plug: Callable[[bool], None]

    async def until(self, fits: Callable[[Interface], bool]) -> Interface:
        """Waits as a service does: by `changed`."""
        async with asyncio.timeout(20):
            while not fits(found := (await self.ports.interfaces())["eth0"]):
                await self.ports.changed()
        return found


@contextlib.contextmanager
def dhcp_server(lab: Lab) -> Iterator[None]:
    command = [
        *("dnsmasq", "-k", "--port=0", "--bind-interfaces", "--interface=eth0", "--log-facility=-"),
        *("--except-interface=lo", "--dhcp-range=192.0.2.77,192.0.2.77,10m", "--no-ping"),
        *("--dhcp-authoritative", "--dhcp-option=option:dns-server,192.0.2.53"),
        *("--domain=shop.example", f"--dhcp-leasefile={lab.directory}/dhcp", "--pid-file="),
    ]
    with lab.beyond():
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(5)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Its eth0 is as a machine has it before anybody set it up; a DHCP server is at its other end.

    Undone before a loop runs, and made before: netlink does not like one.
    """
    with open_lab() as lab, dhcp_server(lab):
        index = interfaces()["eth0"]
        netlink(lambda route: route.flush_addr(index=index))
        (lab.directory / "etc").mkdir()
        yield lab


def linux_ports(lab: Lab) -> LinuxPorts:
    return LinuxPorts(
        lab.directory / "ports", Names(lab.directory / "etc", lab.directory / "hosts")
    )


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def ground(request: pytest.FixtureRequest) -> Lab | None:
    """None: the fake needs none."""
    if request.param == "fake":
        return None
    lab: Lab = request.getfixturevalue("lab")
    return lab


@pytest_asyncio.fixture
async def world(ground: Lab | None) -> AsyncIterator[World]:
    made = fake_world() if ground is None else real_world(ground)
    await made.ports.prepare()
    yield made
    await made.ports.close()


def fake_world() -> World:
    cable = Cable(lease=Lease(LEASED, OUTSIDE_ADDRESS, ("192.0.2.53",), domain="shop.example"))
    ports = FakePorts({"eth0": cable})

    def plug(present: bool) -> None:
        cable.up = present
        ports.touch()

    return World(ports, plug)


def real_world(lab: Lab) -> World:
    def plug(present: bool) -> None:
        with lab.beyond():
            index, state = interfaces()["eth0"], "up" if present else "down"
            netlink(lambda route: route.link("set", index=index, state=state))

    return World(linux_ports(lab), plug)


def around(ports: Ports) -> World:
    return World(ports, lambda present: None)


async def test_an_interface_that_nobody_set_up_has_no_address(world: World) -> None:
    found = (await world.ports.interfaces())["eth0"]
    assert (found.name, found.addresses, found.routers) == ("eth0", (), ())
    assert found.mac


async def test_dhcp_brings_address_router_servers_and_domain(world: World) -> None:
    await world.ports.apply([BY_DHCP])
    found = await world.until(lambda found: bool(found.addresses))
    assert found.addresses[0] == LEASED
    assert (found.routers, found.dns) == ((OUTSIDE_ADDRESS,), ("192.0.2.53",))
    assert (found.up, found.domain) == (True, "shop.example")


async def test_what_the_setup_says_comes_before_what_the_lease_says(world: World) -> None:
    setup = Setup(interface="eth0", dhcp=True, dns=("9.9.9.9",), domain="own.example")
    await world.ports.apply([setup])
    found = await world.until(lambda found: bool(found.addresses))
    assert (found.dns, found.domain) == (("9.9.9.9",), "own.example")


async def test_a_static_setup_takes_the_place_of_a_lease_and_back(world: World) -> None:
    await world.ports.apply([BY_DHCP])
    await world.until(lambda found: found.addresses[:1] == (LEASED,))
    await world.ports.apply([STATIC])
    found = await world.until(lambda found: found.addresses == (STATIC.address,))
    assert (found.routers, found.dns, found.mtu) == ((OUTSIDE_ADDRESS,), ("9.9.9.9",), 1400)
    await world.ports.apply([BY_DHCP])
    await world.until(lambda found: found.addresses == (LEASED,))


async def test_what_is_no_longer_wanted_loses_what_it_was_given(world: World) -> None:
    await world.ports.apply([STATIC])
    await world.until(lambda found: bool(found.addresses))
    await world.ports.apply([])
    found = await world.until(lambda found: not found.addresses)
    assert found.routers == ()


async def test_an_interface_that_is_not_there_hinders_nobody(world: World) -> None:
    await world.ports.apply([Setup(interface="eth7", dhcp=True), STATIC])
    found = await world.until(lambda found: bool(found.addresses))
    assert found.addresses == (STATIC.address,)
    assert "eth7" not in await world.ports.interfaces()


async def test_applying_the_same_again_changes_nothing(world: World) -> None:
    await world.ports.apply([BY_DHCP])
    before = await world.until(lambda found: bool(found.addresses))
    await world.ports.apply([BY_DHCP])
    assert (await world.ports.interfaces())["eth0"] == before


async def test_a_cable_that_is_pulled_and_put_back_is_noticed(world: World) -> None:
    await world.ports.apply([STATIC])
    await world.until(lambda found: found.up)
    world.plug(False)
    await world.until(lambda found: not found.up)
    world.plug(True)
    await world.until(lambda found: found.up)


# -- what only the kernel has ---------------------------------------------------------------------

needs_root = pytest.mark.root


@needs_root
async def test_names_are_looked_up_where_the_lease_says_and_as_the_node_was_told(lab: Lab) -> None:
    (lab.directory / "hosts").write_text("192.0.2.5 controller.example\n")
    ports = linux_ports(lab)
    await ports.prepare()
    await ports.apply([BY_DHCP])
    await around(ports).until(lambda found: bool(found.addresses))
    await ports.close()
    etc = lab.directory / "etc"
    assert (etc / "resolv.conf").read_text() == "nameserver 192.0.2.53\nsearch shop.example\n"
    assert "192.0.2.5 controller.example\n" in (etc / "hosts").read_text()


@needs_root
async def test_a_service_that_was_killed_is_followed_by_one_with_the_same_address(lab: Lab) -> None:
    """The address stays meanwhile, and there is one DHCP client, not two."""
    first, second = linux_ports(lab), linux_ports(lab)
    await first.prepare()
    await first.apply([BY_DHCP])
    await around(first).until(lambda found: bool(found.addresses))
    left_behind = identify(int((lab.directory / "ports" / "eth0.pid").read_text()))
    assert left_behind is not None
    await second.prepare()
    await second.apply([BY_DHCP])
    assert (await second.interfaces())["eth0"].addresses[0] == LEASED
    await around(second).until(lambda found: bool(found.dns))
    assert not left_behind.alive()
    await first.close()
    await second.close()


@needs_root
async def test_of_two_ports_the_cheaper_one_is_the_way_out(lab: Lab) -> None:
    peer = {"ifname": "tap9"}
    netlink(lambda route: route.link("add", ifname="eth1", kind="veth", peer=peer))
    index = interfaces()["tap9"]
    netlink(lambda route: route.link("set", index=index, state="up"))
    ports = linux_ports(lab)
    await ports.prepare()
    other = Setup(interface="eth1", address="198.51.100.2/24", gateway="198.51.100.1", cost=7)
    await ports.apply([STATIC, other])
    assert way_out() == "192.0.2.9"
    await ports.apply([replace(STATIC, cost=9), other])
    assert way_out() == "198.51.100.2"
    await ports.close()


def way_out() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 9))
        return str(probe.getsockname()[0])


@needs_root
async def test_adopted_ports_are_told_of_and_never_touched(lab: Lab) -> None:
    netlink(
        lambda route: route.addr(
            "add", index=interfaces()["eth0"], address="192.0.2.2", prefixlen=24
        )
    )
    ports = AdoptedPorts(Names(lab.directory, lab.directory / "hosts"))
    await ports.prepare()
    before = await ports.interfaces()
    await ports.apply([STATIC])
    assert await ports.interfaces() == before
    assert before["eth0"].addresses[0] == "192.0.2.2/24"
    await ports.close()
