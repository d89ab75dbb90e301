"""Domains match what apps wants, on a machine without a machine and in virtual time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from edgevirt.host.fakes.hypervisor import FakeHypervisor, FakeMachine
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.model.app import AppSecret
from edgevirt.model.base import Severity, SwState
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import DiskStatus, Domain, DomainStatus, DomainVolume, VirtualizationMode
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import (
    APP_SECRET,
    DOMAIN,
    DOMAIN_EXIT,
    DOMAIN_METRIC,
    DOMAIN_STATUS,
    PROPERTY,
)
from edgevirt.model.node import Property
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.metering import meter_once
from edgevirt.node.domains.reconciler import POLL_SECONDS, DomainReconciler
from edgevirt.runtime import VirtualClock, engine
from edgevirt.runtime.memory import MemoryStore

APP = AppId("7f8e3c1a-0000-4000-8000-000000000001")


def domain(*cmd: str, **fields: object) -> Domain:
    base = Domain(
        app=APP,
        name=f"{APP}.1.1",
        display_name="web",
        activate=True,
        generation=1,
        memory_kib=1024,
        volumes=(DomainVolume(path="/", format=ContentFormat.CONTAINER),),
        image=ImageConfig(cmd=cmd or ("run",)),
    )
    return msgspec.structs.replace(base, **fields)


@dataclass
class Node:
    """A store, the machine, and (once started) the domains service on it."""

    consoles: Path
    clock: VirtualClock = field(default_factory=VirtualClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    machine: FakeMachine = field(default_factory=FakeMachine)

    async def start(self) -> None:
        adapter = FakeHypervisor(self.machine, self.clock)
        self._exits = ExitWatch(self.store, self.clock)
        reconciler = DomainReconciler([adapter], self._exits, self.clock, [(self.consoles, ".log")])
        self._task = asyncio.create_task(engine.run(self.store, self.clock, [reconciler]))
        await self.clock.settle()

    async def stop(self) -> None:
        """The service dies; the machine runs on, and so does the word of what was."""
        self._exits.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def want(self, wanted: Domain | None) -> None:
        if wanted is None:
            await self.store.delete(DOMAIN, APP)
        else:
            await self.store.put(DOMAIN, APP, wanted)
        await self.clock.settle()

    async def status(self) -> DomainStatus | None:
        found = await self.store.get(DOMAIN_STATUS, APP)
        return None if found is None else found.value

    async def told(self) -> DomainStatus:
        status = await self.status()
        assert status is not None
        return status


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.start()
    yield node
    await node.stop()


async def test_wanted_domain_runs_and_says_so(node: Node) -> None:
    await node.want(domain())
    status = await node.told()
    assert (status.state, status.generation, status.pid) == (SwState.RUNNING, 1, 100)
    assert status.boot_time == node.clock.now()
    assert status.trouble is None


async def test_domain_that_is_being_made_is_told_as_booting(node: Node) -> None:
    node.machine.boot_seconds = 5.0
    await node.want(domain())
    assert (await node.told()).state == SwState.BOOTING
    await node.clock.advance(5)
    assert (await node.told()).state == SwState.RUNNING


def disk(size: int) -> DomainVolume:
    return DomainVolume(path="/", format=ContentFormat.CONTAINER, size=size)


async def test_a_disk_grows_under_a_domain_that_runs_on(node: Node) -> None:
    await node.want(domain())
    assert (await node.told()).disks == ()
    await node.want(domain(volumes=(disk(5 << 30),)))
    status = await node.told()
    assert status.disks == (DiskStatus(path="/", size=5 << 30),)
    assert (status.state, status.pid) == (SwState.RUNNING, 100)
    assert node.machine.log[-1] == f"grow {APP}"


async def test_a_disk_that_does_not_grow_says_why_until_it_does(node: Node) -> None:
    node.machine.stuck = "cannot ask the machine for block_resize: its monitor is silent"
    await node.want(domain(volumes=(disk(5 << 30),)))
    status = await node.told()
    assert status.disks == (DiskStatus(path="/", why=node.machine.stuck),)
    assert (status.state, status.trouble) == (SwState.RUNNING, None)
    node.machine.stuck = ""
    await node.clock.advance(POLL_SECONDS)
    assert (await node.told()).disks == (DiskStatus(path="/", size=5 << 30),)


async def test_after_a_crash_a_disk_is_looked_at_again(node: Node) -> None:
    await node.want(domain(volumes=(disk(5 << 30),)))
    node.machine.finish(APP, 1)
    await node.clock.advance(POLL_SECONDS)
    assert node.machine.log[-2:] == [f"start {APP}", f"grow {APP}"]


async def test_unwanted_domain_is_stopped_removed_and_forgotten(node: Node) -> None:
    await node.want(domain())
    await node.want(None)
    assert node.machine.domains == {}
    assert await node.status() is None
    assert node.machine.log[-2:] == [f"stop {APP}", f"delete {APP}"]
    assert await node.store.list(DOMAIN_EXIT) == {}


async def test_console_outlives_the_domain_but_not_the_app(node: Node) -> None:
    console = node.consoles / f"{APP}.log"
    console.write_text("hello")
    await node.want(domain())
    await node.want(domain(generation=2))
    await node.want(domain(generation=2, activate=False))
    assert console.exists()
    await node.want(None)
    assert not console.exists()


async def test_stopped_domain_stays_stopped_and_is_told_as_halted(node: Node) -> None:
    await node.want(domain())
    await node.want(domain(activate=False))
    assert (await node.told()).state == SwState.HALTED
    await node.clock.advance(3600)
    assert node.machine.domains == {}
    assert (await node.told()).trouble is None

    await node.want(domain())
    assert (await node.told()).state == SwState.RUNNING


async def test_stubborn_domain_is_halting_for_a_minute_then_ended(node: Node) -> None:
    await node.want(domain("stubborn"))
    await node.want(domain("stubborn", activate=False))
    assert (await node.told()).state == SwState.HALTING
    await node.clock.advance(59)
    assert (await node.told()).state == SwState.HALTING
    await node.clock.advance(1)
    assert (await node.told()).state == SwState.HALTED


async def test_changed_generation_restarts_and_nothing_else_does(node: Node) -> None:
    await node.want(domain())
    await node.want(domain(memory_kib=4096, dns=("10.0.0.1",)))
    assert (await node.told()).pid == 100
    await node.want(domain(generation=2))
    status = await node.told()
    assert (status.state, status.generation, status.pid) == (SwState.RUNNING, 2, 101)
    assert status.crashes == 0


async def test_crash_is_noticed_at_once_and_restarted_at_once(node: Node) -> None:
    await node.want(domain())
    node.machine.finish(APP, 3)
    await node.clock.settle()
    status = await node.told()
    assert (status.state, status.pid, status.crashes) == (SwState.RUNNING, 101, 1)
    assert status.exit_code == 3


async def test_why_a_running_domain_crashed_is_told_until_a_long_run(node: Node) -> None:
    await node.want(domain())
    node.machine.finish(APP, 3)
    await node.clock.advance(300)
    trouble = (await node.told()).trouble
    assert trouble is not None
    assert trouble.why == "cannot keep running: it ended by itself with exit code 3"
    assert (trouble.severity, trouble.attempts) == (Severity.NOTICE, 1)
    await node.stop()
    await node.start()
    assert (await node.told()).trouble == trouble
    await node.clock.advance(360)
    status = await node.told()
    assert (status.state, status.crashes, status.trouble) == (SwState.RUNNING, 1, None)


async def test_crash_loop_waits_longer_each_time_and_tells_when_next(node: Node) -> None:
    await node.want(domain("exit", "7"))
    status = await node.told()
    assert (status.state, status.crashes) == (SwState.HALTED, 2)
    assert status.trouble is not None
    assert status.trouble.why == "cannot keep running: it ended by itself with exit code 7"
    assert status.trouble.retry_at == node.clock.now() + 1.0
    for crashes, delay in ((3, 1.0), (4, 2.0), (5, 4.0)):
        await node.clock.advance(delay)
        status = await node.told()
        assert status.crashes == crashes
        assert status.boot_time == node.clock.now(), "a run too short to be seen is not known"
    assert status.trouble is not None
    assert status.trouble.attempts == 5
    assert status.trouble.severity == Severity.NOTICE


async def test_boot_retry_property_bounds_the_wait(node: Node) -> None:
    await node.store.put(PROPERTY, "timer.boot.retry", Property(value="10"))
    await node.want(domain("exit", "1"))
    await node.clock.advance(300)
    starts = node.machine.log.count(f"start {APP}")
    await node.clock.advance(100)
    assert node.machine.log.count(f"start {APP}") == starts + 10


async def test_other_changes_do_not_cut_the_wait_short(node: Node) -> None:
    await node.want(domain("exit", "1"))
    await node.clock.advance(15)
    before = (await node.told()).crashes
    await node.store.put(PROPERTY, "timer.config.interval", Property(value="30"))
    await node.clock.settle()
    assert (await node.told()).crashes == before


async def test_changed_app_starts_at_once_with_a_clean_slate(node: Node) -> None:
    await node.want(domain("exit", "1"))
    await node.clock.advance(100)
    await node.want(domain(generation=2))
    status = await node.told()
    assert (status.state, status.crashes, status.trouble) == (SwState.RUNNING, 0, None)


@pytest.mark.parametrize(
    ("code", "out_of_memory", "why"),
    [
        (137, True, "it needed more memory than its 1024 KiB"),
        (137, False, "it was ended by signal SIGKILL"),
        (139, False, "it was ended by signal SIGSEGV"),
        (0, False, "it ended by itself with exit code 0"),
    ],
)
async def test_trouble_says_how_it_ended(
    node: Node, code: int, out_of_memory: bool, why: str
) -> None:
    await node.want(domain())
    for _ in range(2):
        node.machine.finish(APP, code, out_of_memory=out_of_memory)
        await node.clock.settle()
    trouble = (await node.told()).trouble
    assert trouble is not None
    assert trouble.why == f"cannot keep running: {why}"


async def test_lost_monitor_is_told_as_broken_and_restarted(node: Node) -> None:
    await node.want(domain())
    node.machine.lose(APP)
    await node.clock.settle()
    node.machine.lose(APP)
    await node.clock.settle()
    status = await node.told()
    assert status.state == SwState.BROKEN
    assert status.trouble is not None
    assert "watched over it" in status.trouble.why
    await node.clock.advance(1)
    assert (await node.told()).state == SwState.RUNNING


async def test_start_that_fails_is_tried_again_and_the_reason_told(node: Node) -> None:
    node.machine.failures = [HypervisorError("cannot create: no network"), HypervisorError("x")]
    await node.want(domain())
    status = await node.told()
    assert (status.state, status.crashes) == (SwState.HALTED, 0)
    assert status.trouble is not None
    assert status.trouble.why == "cannot create: no network"
    assert status.trouble.retry_at == node.clock.now() + 1.0
    await node.clock.advance(3)
    assert (await node.told()).state == SwState.RUNNING


async def test_unfit_domain_is_broken_and_not_tried_again_until_it_changes(node: Node) -> None:
    await node.want(domain("nonsense"))
    status = await node.told()
    assert status.state == SwState.BROKEN
    assert status.trouble is not None
    assert status.trouble.retry_at is None
    assert "not tried again by itself" in status.trouble.hint
    tries = len(node.machine.log)
    await node.clock.advance(7200)
    assert len(node.machine.log) == tries
    await node.want(domain(generation=2))
    assert (await node.told()).state == SwState.RUNNING


async def test_mode_without_an_adapter_is_told_in_words(node: Node) -> None:
    await node.want(domain(mode=VirtualizationMode.HVM))
    status = await node.told()
    assert status.trouble is not None
    assert status.trouble.why == "cannot run: this node has no hypervisor for mode HVM"


async def test_running_domain_is_adopted_by_a_restarted_service(node: Node) -> None:
    await node.want(domain())
    started = (await node.told()).boot_time
    await node.stop()
    await node.clock.advance(100)
    await node.start()
    status = await node.told()
    assert (status.state, status.pid, status.boot_time) == (SwState.RUNNING, 100, started)
    assert node.machine.log == [f"create {APP}", f"start {APP}"]

    node.machine.finish(APP, 1)
    await node.clock.settle()
    assert (await node.told()).crashes == 1


async def test_end_while_the_service_was_away_counts_as_a_crash(node: Node) -> None:
    await node.want(domain())
    await node.stop()
    node.machine.finish(APP, 5)
    await node.start()
    status = await node.told()
    assert (status.state, status.crashes, status.exit_code) == (SwState.RUNNING, 1, 5)


async def test_crash_loop_goes_on_where_it_was_when_the_service_restarts(node: Node) -> None:
    await node.want(domain("exit", "1"))
    await node.clock.advance(100)
    before = await node.told()
    assert before.crashes == 8
    await node.stop()
    await node.start()
    assert await node.told() == before
    assert before.trouble is not None
    assert before.trouble.retry_at is not None
    await node.clock.advance(before.trouble.retry_at - node.clock.now())
    after = await node.told()
    assert after.crashes == 9
    assert after.trouble is not None
    assert after.trouble.attempts == 9


async def test_end_that_the_watch_missed_is_found_by_the_poll(node: Node) -> None:
    node.machine.watch_fails = True
    await node.want(domain())
    node.machine.finish(APP, 1)
    await node.clock.advance(29)
    assert (await node.told()).crashes == 0
    await node.clock.advance(1)
    assert (await node.told()).crashes == 1


async def test_leftover_of_an_app_that_is_gone_is_removed_at_start(node: Node) -> None:
    await node.want(domain())
    await node.stop()
    await node.store.delete(DOMAIN, APP)
    await node.start()
    assert node.machine.domains == {}
    assert await node.status() is None


async def test_secret_is_waited_for_and_wins_over_plain_user_data(node: Node) -> None:
    await node.want(domain(has_secret=True, user_data=_base64("A=plain")))
    status = await node.told()
    assert status.state == SwState.HALTED
    assert status.trouble is not None
    assert status.trouble.severity == Severity.NOTICE
    await node.clock.advance(120)
    assert (await node.told()) == status

    await node.store.put(APP_SECRET, APP, AppSecret(user_data="", why="cannot decrypt: no key"))
    await node.clock.settle()
    status = await node.told()
    assert status.trouble is not None
    assert status.trouble.why == "cannot decrypt: no key"
    assert node.machine.domains == {}

    await node.store.put(APP_SECRET, APP, AppSecret(user_data=_base64("A=secret")))
    await node.clock.settle()
    assert (await node.told()).state == SwState.RUNNING
    assert node.machine.domains[APP].user_data == b"A=secret"


async def test_user_data_that_is_no_base64_is_told_without_quoting_it(node: Node) -> None:
    await node.want(domain(user_data="hunter2!"))
    status = await node.told()
    assert status.trouble is not None
    assert status.trouble.why == "cannot read user data: it is not base64"


async def test_metrics_come_and_go_with_the_running_domain(node: Node) -> None:
    adapters = [FakeHypervisor(node.machine, node.clock)]
    await node.want(domain())
    await meter_once(node.store, adapters)
    metric = await node.store.get(DOMAIN_METRIC, APP)
    assert metric is not None
    assert metric.value.memory_limit == 1024 * 1024
    await node.want(domain(activate=False))
    await meter_once(node.store, adapters)
    assert await node.store.list(DOMAIN_METRIC) == {}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
