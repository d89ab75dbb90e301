"""What every hypervisor adapter does, whatever it runs: the fake is held to it as well."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from msgspec.structs import replace

from edgevirt.host.fakes.hypervisor import FakeHypervisor, FakeMachine
from edgevirt.host.hypervisor import DomainInfo, Exit, Hypervisor, HypervisorError, UnfitError
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import DiskStatus, Domain, DomainVolume
from edgevirt.model.ids import AppId
from edgevirt.runtime import Clock, RealClock
from tests.worlds.contained import contained_world
from tests.worlds.container import ContainerWorld
from tests.worlds.guest import GuestWorld, guest_world

BIG = 16 << 20
APP = AppId("7f8e3c1a-0000-4000-8000-000000000001")


class World(Protocol):
    """A machine with one kind of hypervisor, and the ways in which domains meet their end."""

    @property
    def clock(self) -> Clock: ...

    @property
    def tells_codes(self) -> bool:
        """Whether a domain's own exit code is known; if not, its end by itself is 0."""
        ...

    @property
    def looks_inside(self) -> bool:
        """Whether it knows what is in an image before it is started."""
        ...

    @property
    def killed(self) -> tuple[SwState, Exit]:
        """What a domain is whose process was killed."""
        ...

    @property
    def grows(self) -> bool:
        """Whether this machine lets a file system grow that is mounted."""
        ...

    def length(self, path: str) -> int:
        """Bytes of a domain's disk as a file; 0: there is none."""
        ...

    def hypervisor(self) -> Hypervisor: ...

    def domain(
        self, *cmd: str, app: AppId | None = None, generation: int = 1, memory_kib: int = 32_768
    ) -> Domain: ...

    async def ready(self, app: AppId) -> None: ...

    def crash(self, info: DomainInfo) -> None: ...

    def lose(self, info: DomainInfo) -> None: ...


@dataclass
class FakeWorld:
    machine: FakeMachine = field(default_factory=FakeMachine)
    clock: RealClock = field(default_factory=RealClock)
    tells_codes: bool = True
    looks_inside: bool = True
    killed: tuple[SwState, Exit] = (SwState.HALTED, Exit(137))
    grows: bool = True

    def length(self, path: str) -> int:
        return 0

    def hypervisor(self) -> FakeHypervisor:
        return FakeHypervisor(self.machine, self.clock)

    def domain(
        self, *cmd: str, app: AppId | None = None, generation: int = 1, memory_kib: int = 32_768
    ) -> Domain:
        app = app or APP
        return Domain(
            app=app,
            name=f"{app}.1.1",
            display_name="test",
            activate=True,
            generation=generation,
            memory_kib=memory_kib,
            volumes=(DomainVolume(path="/", format=ContentFormat.CONTAINER),),
            image=ImageConfig(cmd=cmd),
        )

    async def ready(self, app: AppId) -> None:
        assert app in self.machine.domains

    def crash(self, info: DomainInfo) -> None:
        self.machine.finish(info.app, 137)

    def lose(self, info: DomainInfo) -> None:
        self.machine.lose(info.app)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("container", marks=pytest.mark.root),
        pytest.param("kvm", marks=pytest.mark.root),
        pytest.param("contained", marks=[pytest.mark.root, pytest.mark.slow]),
    ]
)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    with contextlib.ExitStack() as kept:
        real: ContainerWorld | GuestWorld
        if request.param == "container":
            real = ContainerWorld(tmp_path)
        elif request.param == "contained":
            real = kept.enter_context(contained_world())
            await real.pack()
        else:
            real = kept.enter_context(guest_world())
        try:
            yield real
        finally:
            await real.close()


def knowing_codes(world: World) -> World:
    if not world.tells_codes:
        pytest.skip("a virtual machine knows no exit codes of what runs in it")
    return world


async def launch(world: World, domain: Domain) -> DomainInfo:
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"")
    return await hypervisor.start(domain.app)


async def test_created_domain_runs_only_after_start(world: World) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run", generation=7)
    await hypervisor.create(domain, b"")
    created = await hypervisor.info(domain.app)
    assert created is not None
    assert (created.state, created.started) == (SwState.BOOTING, 0.0)

    before = world.clock.now()
    running = await hypervisor.start(domain.app)
    assert running.state == SwState.RUNNING
    assert (running.app, running.name, running.generation) == (domain.app, domain.name, 7)
    assert running.pid > 0
    assert before <= running.started <= world.clock.now()
    assert await hypervisor.list() == (running,)


async def test_start_of_what_was_not_created_is_an_error(world: World) -> None:
    with pytest.raises(HypervisorError, match="not created"):
        await world.hypervisor().start(APP)


async def test_end_by_itself_is_noticed_with_its_code(world: World) -> None:
    domain = world.domain("exit", "3")
    await launch(world, domain)
    info = await world.hypervisor().wait_exit(domain.app)
    assert info is not None
    code = 3 if world.tells_codes else 0
    assert (info.state, info.pid, info.exit) == (SwState.HALTED, 0, Exit(code))


async def test_killed_process_is_an_end_by_signal(world: World) -> None:
    running = await launch(world, world.domain("run"))
    world.crash(running)
    info = await world.hypervisor().wait_exit(running.app)
    assert info is not None
    assert (info.state, info.exit) == world.killed


async def test_out_of_memory_is_told_from_other_ends(world: World) -> None:
    knowing_codes(world)
    domain = world.domain("hog", memory_kib=16_384)
    await launch(world, domain)
    info = await world.hypervisor().wait_exit(domain.app)
    assert info is not None
    assert info.exit is not None
    assert info.exit.out_of_memory


async def test_graceful_stop_lets_the_app_end_itself(world: World) -> None:
    running = await launch(world, world.domain("run"))
    await world.ready(running.app)
    await world.hypervisor().stop(running.app, graceful=20.0, forced=20.0)
    info = await world.hypervisor().info(running.app)
    assert info is not None
    assert (info.state, info.exit) == (SwState.HALTED, Exit(0))


async def test_app_that_ignores_the_request_is_ended_after_the_graceful_time(world: World) -> None:
    running = await launch(world, world.domain("stubborn"))
    await world.ready(running.app)
    before = world.clock.monotonic()
    await world.hypervisor().stop(running.app, graceful=0.3, forced=20.0)
    assert world.clock.monotonic() - before >= 0.3
    info = await world.hypervisor().info(running.app)
    assert info is not None
    assert (info.state, info.exit) == world.killed


async def test_app_that_cannot_hear_the_request_is_not_waited_for(world: World) -> None:
    knowing_codes(world)
    running = await launch(world, world.domain("deaf"))
    await world.ready(running.app)
    before = world.clock.monotonic()
    await world.hypervisor().stop(running.app, graceful=30.0, forced=20.0)
    assert world.clock.monotonic() - before < 15.0


async def test_stop_of_nothing_and_of_the_ended_has_no_effect(world: World) -> None:
    hypervisor = world.hypervisor()
    await hypervisor.stop(APP, graceful=1.0, forced=1.0)
    domain = world.domain("exit", "0")
    await launch(world, domain)
    before = await hypervisor.wait_exit(domain.app)
    await hypervisor.stop(domain.app, graceful=1.0, forced=1.0)
    assert await hypervisor.info(domain.app) == before


async def test_delete_ends_and_removes_everything(world: World) -> None:
    running = await launch(world, world.domain("run"))
    hypervisor = world.hypervisor()
    await hypervisor.delete(running.app)
    assert await hypervisor.info(running.app) is None
    assert await hypervisor.list() == ()
    await hypervisor.delete(running.app)


async def test_create_replaces_what_an_earlier_domain_left(world: World) -> None:
    first = world.domain("run", generation=1)
    old = await launch(world, first)
    new = await launch(world, world.domain("run", app=first.app, generation=2))
    assert new.pid != old.pid
    assert await world.hypervisor().list() == (new,)


async def test_two_apps_run_side_by_side(world: World) -> None:
    one = await launch(world, world.domain("run", app=APP))
    other = AppId("7f8e3c1a-0000-4000-8000-000000000002")
    two = await launch(world, world.domain("run", app=other))
    await world.hypervisor().delete(one.app)
    assert await world.hypervisor().list() == (two,)


async def test_domain_outlives_its_adapter_and_is_found_again(world: World) -> None:
    running = await launch(world, world.domain("run"))
    successor = world.hypervisor()
    assert await successor.info(running.app) == running
    world.crash(running)
    info = await successor.wait_exit(running.app)
    assert info is not None
    assert info.exit == Exit(137)


async def test_domain_that_lost_its_monitor_is_broken_and_can_be_made_anew(world: World) -> None:
    running = await launch(world, world.domain("run"))
    world.lose(running)
    info = await world.hypervisor().wait_exit(running.app)
    assert info is not None
    assert (info.state, info.exit) == (SwState.BROKEN, None)

    again = await launch(world, world.domain("run", app=running.app, generation=2))
    assert (again.state, again.generation) == (SwState.RUNNING, 2)


async def test_command_that_is_not_there_is_unfit_and_leaves_nothing(world: World) -> None:
    if not world.looks_inside:
        pytest.skip("what is in the image is the guest's to know")
    domain = world.domain("run")
    missing = ImageConfig(cmd=("/no/such/command",))
    with pytest.raises(UnfitError, match="cannot create"):
        await world.hypervisor().create(_with_image(domain, missing), b"")
    assert await world.hypervisor().list() == ()


async def test_domain_without_a_volume_is_unfit(world: World) -> None:
    domain = Domain(app=APP, name="x.1.1", display_name="x", activate=True)
    with pytest.raises(UnfitError, match="cannot run"):
        await world.hypervisor().create(domain, b"")
    assert await world.hypervisor().list() == ()


async def test_metrics_are_of_the_running_domain_alone(world: World) -> None:
    domain = world.domain("run", memory_kib=32_768)
    running = await launch(world, domain)
    await world.ready(running.app)
    hypervisor = world.hypervisor()
    metric = await hypervisor.metrics(running.app)
    assert metric is not None
    assert metric.memory_limit == (domain.memory_kib + domain.overhead_kib) * 1024
    assert 0 < metric.memory_bytes <= metric.memory_limit
    assert metric.cpu_ns > 0
    assert abs(metric.at - world.clock.now()) < 30.0

    await hypervisor.stop(running.app, graceful=20.0, forced=20.0)
    assert await hypervisor.metrics(running.app) is None
    await hypervisor.delete(running.app)
    assert await hypervisor.metrics(running.app) is None


def larger(domain: Domain, size: int) -> Domain:
    """The same, whose first disk is to have `size` bytes."""
    first, *others = domain.volumes
    return replace(domain, volumes=(replace(first, size=size), *others))


async def test_a_disk_of_a_running_domain_grows_and_never_becomes_smaller(world: World) -> None:
    running = await launch(world, domain := world.domain("run"))
    await world.ready(running.app)
    assert await world.hypervisor().grow(domain) == (), "none is to have a size"
    path = domain.volumes[0].path
    for size in (BIG, BIG, BIG // 2):
        (disk,) = await world.hypervisor().grow(larger(domain, size))
        if disk.why and not world.grows:
            assert "Operation not permitted" in disk.why
        else:
            assert disk == DiskStatus(path=path, size=BIG)
        assert world.length(path) in (0, BIG)
    assert await world.hypervisor().info(running.app) == running


async def test_a_disk_that_is_only_read_is_not_grown_under_its_readers(world: World) -> None:
    running = await launch(world, domain := world.domain("run"))
    wanted = larger(domain, BIG)
    read = replace(wanted, volumes=(replace(wanted.volumes[0], readonly=True),))
    (disk,) = await world.hypervisor().grow(read)
    assert (disk.size, disk.why[:27]) == (0, "cannot grow a disk that its")
    assert world.length(disk.path) != BIG
    assert await world.hypervisor().info(running.app) == running


async def test_waiting_for_the_end_of_nothing_returns(world: World) -> None:
    assert await world.hypervisor().wait_exit(APP) is None


async def test_a_console_is_attached_to_while_its_domain_runs(world: World) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    with pytest.raises(HypervisorError, match="does not run"):
        await hypervisor.attach(domain.app, ConsoleKind.SERIAL)
    await hypervisor.create(domain, b"")
    with pytest.raises(HypervisorError, match="does not run"):
        await hypervisor.attach(domain.app, ConsoleKind.SERIAL)
    await hypervisor.start(domain.app)
    await world.ready(domain.app)
    try:
        attached = await hypervisor.attach(domain.app, ConsoleKind.SERIAL)
    except UnfitError as refused:
        assert "no console" in str(refused)  # noqa: PT017
    else:
        attached.close()
    await hypervisor.delete(domain.app)


def _with_image(domain: Domain, image: ImageConfig) -> Domain:
    return Domain(
        app=domain.app,
        name=domain.name,
        display_name=domain.display_name,
        activate=True,
        volumes=domain.volumes,
        image=image,
    )
