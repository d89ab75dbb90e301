"""The networks service as a whole: kinds in, a working network out, on real parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import pytest_asyncio

from edgevirt.host.net.network import LinuxNetwork
from edgevirt.model.ids import AppId, NetworkInstanceId
from edgevirt.model.kinds import (
    APP_NETWORK,
    APP_NETWORK_STATUS,
    NETWORK_INSTANCE,
    NETWORK_INSTANCE_STATUS,
    NETWORK_METRIC,
)
from edgevirt.model.network import (
    Acl,
    AclAction,
    AppInterface,
    AppNetwork,
    AppNetworkStatus,
    NetworkInstance,
    NetworkInstanceState,
    NetworkInstanceType,
)
from edgevirt.node.networks import SERVICE
from edgevirt.node.networks.metric_report import MetricReporter
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import Kind, RealClock
from edgevirt.runtime.engine import guard
from edgevirt.runtime.memory import MemoryStore
from tests.parts.netlab import (
    NODE_ADDRESS,
    OUTSIDE_ADDRESS,
    PATIENCE,
    Lab,
    dhcp_lease,
    interfaces,
    open_lab,
    refused,
    resolve,
    resolves,
    talks,
)

pytestmark = [pytest.mark.root, pytest.mark.e2e]

T = TypeVar("T")

NETWORK = NetworkInstanceId("11111111-0000-4000-8000-000000000001")
WEB = AppId("22222222-0000-4000-8000-000000000001")
DB = AppId("22222222-0000-4000-8000-000000000002")
INSTANCE = NetworkInstance(
    id=NETWORK,
    type=NetworkInstanceType.LOCAL,
    name="inside",
    port="uplink",
    subnet="10.1.0.0/24",
    gateway="10.1.0.1",
    dhcp_first="10.1.0.10",
    dhcp_last="10.1.0.20",
    dns=(OUTSIDE_ADDRESS,),
    static_names=(("printer", ("10.1.0.200",)),),
)
ALLOW_ALL = Acl(id=1, matches=(("ip", "0.0.0.0/0"),))
ALLOW_ALL_6 = Acl(id=2, matches=(("ip", "::/0"),))


def portmap(port: int, app_port: int) -> Acl:
    return Acl(
        id=9,
        matches=(("protocol", "tcp"), ("lport", str(port))),
        action=AclAction.PORTMAP,
        app_port=app_port,
    )


def app(id: AppId, name: str, number: int, *acls: Acl, ip: str = "") -> AppNetwork:
    interface = AppInterface(name="net0", network=NETWORK, acls=acls, ip=ip)
    return AppNetwork(app=id, name=name, app_num=number, interfaces=(interface,))


WEB_NETWORK = app(WEB, "Web Shop", 1, ALLOW_ALL, ALLOW_ALL_6, portmap(8080, 80))
DB_NETWORK = app(DB, "db", 2, ALLOW_ALL)


def paths(directory: Path) -> Paths:
    return Paths(config=directory / "c", persist=directory / "p", run=directory / "run")


@dataclass
class Node:
    """The service at work on a store that the test plays the other services on."""

    store: MemoryStore

    async def put(self, kind: Kind[Any], key: str, value: object) -> None:
        await self.store.put(kind, key, value)

    async def until(self, kind: Kind[T], key: str, test: Callable[[T | None], bool]) -> T | None:
        async with asyncio.timeout(PATIENCE):
            if test(None) and await self.store.get(kind, key) is None:
                return None
            async for _ in self.store.watch(kind):
                found = await self.store.get(kind, key)
                value = found.value if found is not None else None
                if test(value):
                    return value
        raise AssertionError("unreachable")

    async def ready(self, *apps: AppNetwork) -> AppNetworkStatus:
        status = None
        for wanted in apps:
            await self.put(APP_NETWORK, wanted.app, wanted)
        for wanted in apps:
            status = await self.until(
                APP_NETWORK_STATUS, wanted.app, lambda it: it is not None and it.ready
            )
        assert status is not None
        return status


@pytest.fixture
def lab() -> Iterator[Lab]:
    with open_lab() as lab:
        yield lab


@pytest_asyncio.fixture
async def node(lab: Lab) -> AsyncIterator[Node]:
    store = MemoryStore()
    context = Context(
        name="networks",
        store=guard(store, SERVICE.reads, SERVICE.owns),
        clock=RealClock(),
        paths=paths(lab.directory),
        settings=Settings(),
    )
    service = asyncio.create_task(SERVICE.run(context))
    at_work = Node(store)
    try:
        await store.put(NETWORK_INSTANCE, NETWORK, INSTANCE)
        yield at_work
        assert not service.done()
    finally:
        kinds: tuple[Kind[Any], ...] = (APP_NETWORK, NETWORK_INSTANCE)
        for kind in kinds:
            for key in await store.list(kind):
                await store.delete(kind, key)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any((lab.directory / "run").glob("*/*")):
                    await asyncio.sleep(0.05)
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service


async def online(node: Node) -> None:
    await node.until(
        NETWORK_INSTANCE_STATUS,
        NETWORK,
        lambda it: it is not None and it.state == NetworkInstanceState.ONLINE,
    )


async def name_server(lab: Lab) -> int:
    """Its process, as soon as it has said so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return int((lab.directory / "run/networks/bn1/state/pid").read_text())
            await asyncio.sleep(0.02)


async def test_an_app_with_a_port_map_answers_from_outside(lab: Lab, node: Node) -> None:
    status = await node.ready(WEB_NETWORK)
    (vif,) = status.vifs
    assert (vif.name, vif.host_name, vif.bridge) == ("eth0", "nbu0x1", "bn1")
    assert (vif.ip, vif.prefix, vif.gateway) == ("10.1.0.10", 24, "10.1.0.1")
    assert status.portmaps == (("tcp", 8080, 80),)
    assert status.dns == ("10.1.0.1",)
    with lab.guest(WEB):
        lab.echo(80)
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)


async def test_apps_find_each_other_by_name(lab: Lab, node: Node) -> None:
    await node.ready(WEB_NETWORK, DB_NETWORK)
    await online(node)
    with lab.guest(DB):
        lab.echo(5432)
    with lab.guest(WEB):
        assert resolves("10.1.0.1", "db", "10.1.0.11")
        assert resolves("10.1.0.1", "web-shop", "10.1.0.10")
        assert resolve("10.1.0.1", "router") == ["10.1.0.1"]
        assert resolve("10.1.0.1", "printer") == ["10.1.0.200"]
        assert talks("10.1.0.11", 5432)


async def test_an_app_gets_by_dhcp_what_it_was_given(lab: Lab, node: Node) -> None:
    await node.ready(DB_NETWORK)
    await online(node)
    with lab.guest(DB):
        assert dhcp_lease(lab.directory)["ip"] == "10.1.0.10"


async def test_changed_rules_apply_to_a_running_app(lab: Lab, node: Node) -> None:
    status = await node.ready(app(DB, "db", 2))
    with lab.beyond():
        lab.echo(80)
    with lab.guest(DB):
        assert refused(OUTSIDE_ADDRESS, 80)
    await node.ready(app(DB, "db", 2, ALLOW_ALL))
    async with asyncio.timeout(PATIENCE):
        while True:
            with lab.guest(DB):
                if talks(OUTSIDE_ADDRESS, 80, timeout=0.2):
                    break
            await asyncio.sleep(0.02)
    after = await node.store.get(APP_NETWORK_STATUS, DB)
    assert after is not None
    assert after.value.since == status.since


async def test_a_second_app_for_an_address_is_told_who_has_it(node: Node) -> None:
    await node.ready(app(WEB, "web", 1, ALLOW_ALL, ip="10.1.0.50"))
    await node.put(APP_NETWORK, DB, app(DB, "db", 2, ALLOW_ALL, ip="10.1.0.50"))
    status = await node.until(
        APP_NETWORK_STATUS, DB, lambda it: it is not None and it.trouble is not None
    )
    assert status is not None
    assert status.trouble is not None
    assert (
        status.trouble.why == "cannot connect db: the address 10.1.0.50 is asked for by web as well"
    )
    assert not status.ready
    await node.store.delete(APP_NETWORK, WEB)
    await node.until(APP_NETWORK_STATUS, DB, lambda it: it is not None and it.ready)


async def test_a_port_that_the_node_listens_on_is_not_mapped(lab: Lab, node: Node) -> None:
    server = lab.echo(8080)
    await node.put(APP_NETWORK, WEB, WEB_NETWORK)
    status = await node.until(APP_NETWORK_STATUS, WEB, lambda it: it is not None and it.ready)
    assert status is not None
    assert status.trouble is not None
    why = "cannot map tcp port 8080: the node itself listens on 0.0.0.0:8080"
    assert status.trouble.why == why
    assert status.portmaps == ()
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)
    assert len(server.peers) == 1


async def test_a_dead_name_server_comes_back_by_itself(lab: Lab, node: Node) -> None:
    await node.ready(DB_NETWORK)
    await online(node)
    pid = await name_server(lab)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while await name_server(lab) == pid:
            await asyncio.sleep(0.05)
    with lab.guest(DB):
        assert resolve("10.1.0.1", "router") == ["10.1.0.1"]


async def test_metrics_count_what_apps_send_and_what_rules_drop(lab: Lab, node: Node) -> None:
    await node.ready(app(DB, "db", 2))
    with lab.guest(DB):
        assert refused(OUTSIDE_ADDRESS, 80)
    network = LinuxNetwork(lab.namespaces, lab.name_servers)
    reporter = MetricReporter(node.store, RealClock(), network, "eth0", logging.getLogger())
    await reporter.report()
    await network.close()
    found = await node.store.get(NETWORK_METRIC, DB)
    assert found is not None
    (counters,) = found.value.counters
    assert counters.name == "eth0"
    assert counters.tx_packets >= counters.acl_drops >= 1
    assert set(await node.store.list(NETWORK_METRIC)) == {DB, NETWORK, "node"}


async def test_deleting_everything_leaves_nothing(lab: Lab, node: Node) -> None:
    await node.ready(WEB_NETWORK, DB_NETWORK)
    await online(node)
    for key in (WEB, DB):
        await node.store.delete(APP_NETWORK, key)
    await node.store.delete(NETWORK_INSTANCE, NETWORK)
    await node.until(APP_NETWORK_STATUS, WEB, lambda it: it is None)
    await node.until(NETWORK_INSTANCE_STATUS, NETWORK, lambda it: it is None)
    async with asyncio.timeout(PATIENCE):
        while set(interfaces()) != {"lo", "eth0"} or any((lab.directory / "run").glob("*/*")):
            await asyncio.sleep(0.05)
    with lab.beyond():
        assert refused(NODE_ADDRESS, 8080)


# -- a service that is killed, and started again --

_PROGRAM = """
import asyncio, sys
from pathlib import Path
import msgspec
from edgevirt.model.kinds import APP_NETWORK, APP_NETWORK_STATUS, NETWORK_INSTANCE, PORT
from edgevirt.model.network import AppNetwork, NetworkInstance
from edgevirt.node.networks import SERVICE
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import RealClock
from edgevirt.runtime.socket import SocketStore

async def main(directory, names):
    paths = Paths(config=directory / "c", persist=directory / "p", run=directory / "run")
    others = (NETWORK_INSTANCE, APP_NETWORK, PORT)
    store = SocketStore(
        directory / "sockets", "networks", (*SERVICE.owns, *others), (),
        uid_names={0: "networks"}, persist_dir=paths.kinds, held=SERVICE.owns,
    )
    wanted = msgspec.msgpack.decode(
        (directory / "wanted").read_bytes(), type=tuple[NetworkInstance, list[AppNetwork]]
    )
    async with store:
        await store.put(NETWORK_INSTANCE, wanted[0].id, wanted[0])
        for app in wanted[1]:
            await store.put(APP_NETWORK, app.app, app)
        async with asyncio.TaskGroup() as group:
            context = Context("networks", store, RealClock(), paths, Settings())
            group.create_task(SERVICE.run(context))
            async for _ in store.watch(APP_NETWORK_STATUS):
                statuses = await store.list(APP_NETWORK_STATUS)
                if {key for key, it in statuses.items() if it.value.ready} == names:
                    print("ready", flush=True)

asyncio.run(main(Path(sys.argv[1]), set(sys.argv[2:])))
"""


def _start(lab: Lab, *apps: AppNetwork) -> subprocess.Popen[bytes]:
    """Returns when all apps are ready."""
    (lab.directory / "wanted").write_bytes(msgspec.msgpack.encode((INSTANCE, apps)))
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(lab.directory), *(app.app for app in apps)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    lab.undo.callback(_end, process)
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert readable
    assert process.stdout.readline() == b"ready\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


async def test_a_killed_service_interrupts_nothing(lab: Lab) -> None:
    (lab.directory / "run").mkdir()
    lab.undo.callback(lab.sweep)
    process = _start(lab, WEB_NETWORK, DB_NETWORK)
    pid = await name_server(lab)
    before = interfaces()
    with lab.guest(WEB):
        lab.echo(80)
    with lab.beyond():
        connection = socket.create_connection((NODE_ADDRESS, 8080), timeout=PATIENCE)
    lab.undo.callback(connection.close)

    def still_talks() -> bool:
        connection.sendall(b"on")
        return connection.recv(10) == b"on"

    assert still_talks()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert still_talks()
    with lab.guest(DB):
        assert resolves("10.1.0.1", "web-shop", "10.1.0.10")
    late = AppId("22222222-0000-4000-8000-000000000003")
    _start(lab, WEB_NETWORK, DB_NETWORK, app(late, "late", 3))
    assert still_talks()
    after = interfaces()
    assert after.pop("nbu0x3") > 0
    assert after == before
    assert await name_server(lab) == pid
    with lab.beyond():
        assert talks(NODE_ADDRESS, 8080)
