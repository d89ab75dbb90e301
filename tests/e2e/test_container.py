"""Apps in real containers, by the real services as processes of their own.

The test speaks for the agent, for volumes and for networks; nothing else is pretended.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.container.hypervisor import ContainerHypervisor
from edgevirt.host.domain.processors import Partition
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.host.processes import identify
from edgevirt.model import kinds
from edgevirt.model.app import AppInstance, AppInstanceStatus, Resources, VolumeRef
from edgevirt.model.base import SwState
from edgevirt.model.baseos import BaseOsStatus, UpdateStep
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import DomainStatus, VirtualizationMode
from edgevirt.model.ids import AppId, NetworkInstanceId, VolumeId
from edgevirt.model.kinds import (
    APP_INSTANCE,
    APP_INSTANCE_STATUS,
    APP_NETWORK,
    APP_NETWORK_STATUS,
    APP_SECRET,
    BASE_OS_STATUS,
    DEVICE_NETWORK_STATUS,
    DOMAIN_METRIC,
    DOMAIN_STATUS,
    NETWORK_INSTANCE_STATUS,
    PHYSICAL_IO,
    PROPERTY,
    SNAPSHOT_STATUS,
    VOLUME_STATUS,
)
from edgevirt.model.network import (
    AppInterface,
    AppNetworkStatus,
    NetworkInstanceState,
    NetworkInstanceStatus,
    Vif,
)
from edgevirt.model.volume import VolumeStatus, volume_key
from edgevirt.runtime import Kind, RealClock
from edgevirt.runtime.socket import SocketStore
from tests.parts.service_process import Services
from tests.worlds.container import ContainerWorld, network_namespace
from tests.worlds.monitored import PATIENCE, until

pytestmark = [pytest.mark.root, pytest.mark.e2e]

T = TypeVar("T")
APP = AppId("a0000000-0000-4000-8000-000000000001")
VOLUME = VolumeId("b0000000-0000-4000-8000-000000000001")
NETWORK = NetworkInstanceId("c0000000-0000-4000-8000-000000000001")

OWNS: tuple[Kind[Any], ...] = (
    APP_INSTANCE,
    APP_SECRET,
    PROPERTY,
    PHYSICAL_IO,
    kinds.VOLUME,
    VOLUME_STATUS,
    SNAPSHOT_STATUS,
    NETWORK_INSTANCE_STATUS,
    APP_NETWORK_STATUS,
    BASE_OS_STATUS,
    DEVICE_NETWORK_STATUS,
)
READS: tuple[Kind[Any], ...] = (APP_INSTANCE_STATUS, APP_NETWORK, DOMAIN_STATUS, DOMAIN_METRIC)


class Node:
    """The two services, and the test's hand on everything around them."""

    def __init__(self, state: Path) -> None:
        self.cgroup = f"edgevirt-test-{uuid.uuid4().hex[:8]}"
        self.state = state
        self.services = Services(state, self.cgroup, ("apps", "domains"))
        self.images = ContainerWorld(state / "images")
        self.store: SocketStore = self.services.store(OWNS, READS)

    async def open(self) -> None:
        await self.store.open()
        idle = BaseOsStatus(step=UpdateStep.IDLE, since=0.0)
        await self.store.put(BASE_OS_STATUS, "node", idle)
        self.services.start("apps")
        self.services.start("domains")

    async def close(self) -> None:
        self.services.close()
        await self.store.close()
        hypervisor = self.hypervisor()
        for info in await hypervisor.list():
            await hypervisor.delete(info.app)
        for path in (f"{self.cgroup}-user-apps", self.cgroup):
            assert Cgroup(path).remove()

    def hypervisor(self) -> ContainerHypervisor:
        return ContainerHypervisor(
            self.services.paths.domains,
            self.services.paths.console_logs,
            apps=f"{self.cgroup}-user-apps",
            monitors=f"{self.cgroup}/monitors",
            partition=Partition(f"{self.cgroup}-real-time"),
            devices=FakeDevices(),
            clock=RealClock(),
        )

    async def want(self, app: AppInstance) -> None:
        await self.store.put(APP_INSTANCE, app.id, app)

    async def make_volume(self, generation: int, *cmd: str) -> Path:
        """What volumes would make of an image whose command is /bin/app `cmd`."""
        made = self.images.container_volume()
        status = VolumeStatus(
            id=VOLUME,
            generation=generation,
            state=SwState.CREATED_VOLUME,
            since=0.0,
            format=ContentFormat.CONTAINER,
            path=made.path,
            layers=made.layers,
            image=ImageConfig(entrypoint=("/bin/app",), cmd=cmd),
        )
        await self.store.put(VOLUME_STATUS, volume_key(VOLUME, generation), status)
        return Path(made.path)

    async def value(self, kind: Kind[T], key: str = APP) -> T | None:
        found = await self.store.get(kind, key)
        return None if found is None else found.value

    async def status(self, accept: Callable[[AppInstanceStatus], bool]) -> AppInstanceStatus:
        return await self.eventually(APP_INSTANCE_STATUS, accept)

    async def domain(self, accept: Callable[[DomainStatus], bool]) -> DomainStatus:
        return await self.eventually(DOMAIN_STATUS, accept)

    async def eventually(self, kind: Kind[T], accept: Callable[[T], bool]) -> T:
        """The first value of APP that is accepted."""
        last: T | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    last = await self.value(kind)
                    if last is not None and accept(last):
                        return last
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logs = "\n".join(self.services.log(name) for name in ("apps", "domains"))
            raise AssertionError(f"never accepted; last {last}\n{logs}") from None

    async def gone(self, kind: Kind[Any]) -> None:
        async def absent() -> bool:
            return await self.value(kind) is None

        await until(absent)

    def console(self) -> str:
        path = self.services.paths.console_logs / f"{APP}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    state = Path(tempfile.mkdtemp(prefix="edgevirt-test-"))
    state.chmod(0o755)
    node = Node(state)
    try:
        await node.open()
        yield node
    finally:
        await node.close()
        shutil.rmtree(state)


def app(**fields: Any) -> AppInstance:
    base = AppInstance(
        id=APP,
        name="web",
        version="1",
        resources=Resources(memory_kib=32_768, mode=VirtualizationMode.NOHYPER),
        volumes=(VolumeRef(volume=VOLUME),),
    )
    return replace(base, **fields)


def running(status: AppInstanceStatus) -> bool:
    return status.state == SwState.RUNNING


async def test_app_runs_reports_and_goes_without_a_trace(node: Node) -> None:
    await node.want(app(user_data=base64.b64encode(b"GREETING=hello\n").decode()))
    assert (await node.status(lambda status: True)).state == SwState.INITIAL
    await node.make_volume(0, "do", "echo $GREETING; exec sleep 1000")
    status = await node.status(running)
    assert status.activated
    assert status.boot_time > 0
    await until(lambda: "hello" in node.console())
    metric = await node.eventually(DOMAIN_METRIC, lambda metric: metric.memory_bytes > 0)
    assert metric.memory_limit == 32_768 * 1024

    await node.store.delete(APP_INSTANCE, APP)
    for kind in (APP_INSTANCE_STATUS, DOMAIN_STATUS):
        await node.gone(kind)
    assert await node.hypervisor().list() == ()


async def test_killed_services_find_the_app_running_and_leave_it_alone(node: Node) -> None:
    await node.make_volume(0, "run")
    await node.want(app())
    await node.status(running)
    before = await node.domain(lambda status: status.pid > 0)
    process = identify(before.pid)
    assert process is not None
    for name in ("domains", "apps"):
        node.services.kill(name)
    assert process.alive()
    node.services.start("domains")
    node.services.start("apps")

    await node.want(app(name="renamed"))
    await node.status(lambda status: status.name == "renamed")
    assert await node.domain(lambda status: True) == before
    assert process.alive()

    os.kill(before.pid, signal.SIGKILL)  # and it is watched again
    after = await node.domain(lambda status: status.crashes == 1 and status.pid > 0)
    assert after.state == SwState.RUNNING
    assert after.exit_code == 137


async def test_app_that_ended_while_its_service_was_dead_is_restarted(node: Node) -> None:
    await node.make_volume(0, "run")
    await node.want(app())
    await node.status(running)
    before = await node.domain(lambda status: status.pid > 0)
    node.services.kill("domains")
    os.kill(before.pid, signal.SIGKILL)
    node.services.start("domains")
    after = await node.domain(lambda status: status.pid not in (0, before.pid))
    assert after.crashes == 1


async def test_killed_monitor_is_noticed_and_the_app_made_anew(node: Node) -> None:
    await node.make_volume(0, "run")
    await node.want(app())
    await node.status(running)
    before = await node.domain(lambda status: status.pid > 0)
    process = identify(before.pid)
    assert process is not None
    monitor = int((node.services.paths.domains / APP / "conmon.pid").read_text())
    os.kill(monitor, signal.SIGKILL)
    after = await node.domain(lambda status: status.pid not in (0, before.pid))
    assert after.crashes == 1
    assert not process.alive()


async def test_stopped_app_stays_stopped_and_keeps_what_it_wrote(node: Node) -> None:
    await node.make_volume(0, "do", "test -e /kept && echo found || echo kept >/kept; sleep 1000")
    await node.want(app())
    await node.status(running)
    await node.want(app(activate=False))
    await node.status(lambda status: status.state == SwState.HALTED)
    assert await node.hypervisor().list() == ()
    node.services.kill("domains")
    node.services.start("domains")
    await node.want(app())
    await node.status(running)
    await until(lambda: "found" in node.console())


async def test_restart_counter_restarts_gracefully(node: Node) -> None:
    await node.make_volume(0, "run")
    await node.want(app())
    await node.status(running)
    before = await node.domain(lambda status: status.pid > 0)
    await until(lambda: "ready" in node.console())
    await node.want(app(restart_counter=1))
    status = await node.status(lambda status: status.restart_counter == 1)
    assert status.state == SwState.RUNNING
    after = await node.domain(lambda status: status.pid != before.pid)
    assert (after.generation, after.crashes) == (2, 0)


async def test_purge_runs_the_old_until_the_new_is_there_then_only_the_new(node: Node) -> None:
    await node.make_volume(0, "do", "echo old; sleep 1000")
    await node.want(app())
    await node.status(running)
    new = app(volumes=(VolumeRef(volume=VOLUME, generation=1),), purge_counter=1)
    await node.want(new)
    status = await node.status(lambda status: "purging" in status.what)
    assert (status.state, status.purge_counter) == (SwState.RUNNING, 0)
    await node.make_volume(1, "do", "echo new; sleep 1000")
    await node.status(lambda status: status.purge_counter == 1)
    await until(lambda: "new" in node.console())


async def test_crash_loop_is_told_and_ends_with_a_changed_app(node: Node) -> None:
    await node.make_volume(0, "exit", "7")
    await node.want(app())

    def waits(status: AppInstanceStatus) -> bool:
        trouble = status.trouble
        return status.restarts >= 2 and trouble is not None and trouble.retry_at is not None

    assert "exit code 7" in str((await node.status(waits)).trouble)

    mended = base64.b64encode(b"EVE_ECO_CMD=/bin/sleep 1000").decode()
    await node.want(app(user_data=mended, restart_counter=1))
    status = await node.status(lambda status: status.restart_counter == 1)
    assert (status.state, status.restarts, status.trouble) == (SwState.RUNNING, 0, None)


async def test_app_joins_the_network_that_was_made_for_it(node: Node) -> None:
    online = NetworkInstanceStatus(id=NETWORK, state=NetworkInstanceState.ONLINE, since=0.0)
    await node.store.put(NETWORK_INSTANCE_STATUS, NETWORK, online)
    await node.make_volume(0, "do", "ip link; sleep 1000")
    await node.want(app(interfaces=(AppInterface(name="inside", network=NETWORK),)))
    await node.eventually(APP_NETWORK, lambda network: network.activate)
    with network_namespace() as (path, interface):
        vif = Vif(
            name="eth0",
            host_name="nbu1x1",
            bridge="bn1",
            network=NETWORK,
            mac="02:00:00:00:00:01",
            ip="10.1.0.2",
            prefix=24,
            gateway="10.1.0.1",
        )
        made = AppNetworkStatus(app=APP, ready=True, since=0.0, netns=path, vifs=(vif,))
        await node.store.put(APP_NETWORK_STATUS, APP, made)
        assert (await node.status(running)).ips == (("eth0", "10.1.0.2"),)
        await until(lambda: interface in node.console())


async def test_leftover_container_is_removed_when_its_app_is_gone(node: Node) -> None:
    await node.make_volume(0, "run")
    await node.want(app())
    await node.status(running)
    node.services.kill("domains")
    await node.store.delete(APP_INSTANCE, APP)
    node.services.start("domains")

    async def empty() -> bool:
        return await node.hypervisor().list() == ()

    await until(empty)
    await node.gone(APP_INSTANCE_STATUS)
