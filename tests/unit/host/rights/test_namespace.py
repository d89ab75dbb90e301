"""Host mode's namespaces and the uplink between a node and its machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevirt.host.netlink import IPRoute
from edgevirt.host.rights import namespace
from edgevirt.host.rights.namespace import Uplink

pytestmark = pytest.mark.root


Make = Callable[[str], int]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes network namespaces by name; gives a file descriptor of each."""
    with contextlib.ExitStack() as undo:

        def make(name: str) -> int:
            path = tmp_path / name
            namespace.keep_network_namespace(path)
            undo.callback(namespace.drop_network_namespace, path)
            fd = os.open(path, os.O_RDONLY)
            undo.callback(os.close, fd)
            return fd

        yield make


@pytest.fixture
def machine(make: Make) -> Iterator[int]:
    """A network namespace that stands for the machine; the test's thread is in it."""
    fd = make("machine")
    with namespace.inside(fd):
        namespace.loopback_up()
        yield fd


@pytest.fixture
def node(make: Make) -> int:
    return make("node")


def _serve(address: str, port: int, answer: bytes) -> socket.socket:
    """A server in the present namespace that answers each connection and closes it."""
    listener = socket.create_server((address, port))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return listener


def _ask(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=2) as connection:
        return connection.recv(100)


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.3):
            return True
    except OSError:
        return False


def _stop(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _links() -> set[str]:
    with IPRoute() as netlink:
        return {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}


def _tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout


def test_node_reaches_a_forwarded_loopback_port(machine: int, node: int, tmp_path: Path) -> None:
    listener = _serve("127.0.0.1", 8443, b"fleet")
    uplink = Uplink(tmp_path / "state")
    addresses = uplink.open(node, forwards={443: 8443})
    with namespace.inside(node):
        assert _ask(str(addresses.host), 443) == b"fleet"
    _stop(listener)
    uplink.close()


def test_node_reaches_nothing_else_of_the_machine(machine: int, node: int, tmp_path: Path) -> None:
    secret = _serve("127.0.0.1", 9000, b"secret")
    open_to_all = _serve("0.0.0.0", 9001, b"all")
    uplink = Uplink(tmp_path / "state")
    addresses = uplink.open(node, forwards={443: 9001})
    with namespace.inside(node), IPRoute() as netlink:
        assert _ask(str(addresses.host), 443) == b"all"
        assert not _answers(str(addresses.host), 9000)
        assert not _answers(str(addresses.host), 9001)
        netlink.link("set", index=1, state="down")
        netlink.route("add", dst="127.0.0.0/8", gateway=str(addresses.host))
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        assert not _answers("127.0.0.1", 9000)
    _stop(secret)
    _stop(open_to_all)
    uplink.close()


def test_machine_reaches_the_node(machine: int, node: int, tmp_path: Path) -> None:
    uplink = Uplink(tmp_path / "state")
    addresses = uplink.open(node)
    with namespace.inside(node):
        listener = _serve("0.0.0.0", 8080, b"app")
    assert _ask(str(addresses.node), 8080) == b"app"
    _stop(listener)
    uplink.close()


def test_close_leaves_nothing(machine: int, node: int, tmp_path: Path) -> None:
    before = _links()
    uplink = Uplink(tmp_path / "state")
    uplink.open(node, forwards={443: 8443}, masquerade=True)
    assert uplink.interface in _links()
    assert uplink.table in _tables()
    uplink.close()
    uplink.close()
    assert _links() == before
    assert _tables() == ""


def test_a_new_start_replaces_what_a_killed_run_left(
    machine: int, node: int, tmp_path: Path
) -> None:
    first = Uplink(tmp_path / "state").open(node)
    with namespace.inside(node), IPRoute() as netlink:
        (eth0,) = netlink.link_lookup(ifname="eth0")
        netlink.link("set", index=eth0, ifname="stale")
    again = Uplink(tmp_path / "state")
    assert again.open(node) == first
    with namespace.inside(node):
        assert _links() == {"lo", "eth0"}
    again.close()


def test_two_nodes_of_a_machine_get_different_subnets(
    machine: int, node: int, make: Make, tmp_path: Path
) -> None:
    second = Uplink(tmp_path / "b")
    wanted = list(namespace.POOL.subnets(new_prefix=24))[int(second.table[-8:], 16) % 256]
    first = Uplink(tmp_path / "a").open(node, subnet=wanted)
    assert first.subnet == wanted
    assert not second.open(make("other")).subnet.overlaps(wanted)


def test_masquerade_lets_the_node_out_under_the_machines_address(
    machine: int, node: int, make: Make, tmp_path: Path
) -> None:
    world = make("world")
    with IPRoute() as netlink:
        netlink.link("add", ifname="out", kind="veth", peer={"ifname": "in"})
        (out,) = netlink.link_lookup(ifname="out")
        (into,) = netlink.link_lookup(ifname="in")
        netlink.link("set", index=into, net_ns_fd=world)
        netlink.addr("add", index=out, address="192.0.2.1", prefixlen=24)
        netlink.link("set", index=out, state="up")
    with namespace.inside(world), IPRoute() as netlink:
        (into,) = netlink.link_lookup(ifname="in")
        netlink.addr("add", index=into, address="192.0.2.2", prefixlen=24)
        netlink.link("set", index=into, state="up")
        listener = socket.create_server(("192.0.2.2", 80))
        listener.settimeout(2)
    uplink = Uplink(tmp_path / "state")
    uplink.open(node)
    with namespace.inside(node):
        assert not _answers("192.0.2.2", 80)
    uplink.open(node, masquerade=True)
    with namespace.inside(node):
        client = socket.create_connection(("192.0.2.2", 80), timeout=2)
    connection, peer = listener.accept()
    assert peer[0] == "192.0.2.1"
    for end in (client, connection, listener):
        end.close()


def test_a_kept_namespace_goes_away_with_its_mount(tmp_path: Path) -> None:
    path = tmp_path / "app"
    namespace.keep_network_namespace(path)
    assert namespace.is_network_namespace(path)
    with pytest.raises(FileExistsError):
        namespace.keep_network_namespace(path)
    namespace.drop_network_namespace(path)
    namespace.drop_network_namespace(path)
    assert not path.exists()
    assert not namespace.is_network_namespace(path)
