"""What a container finds in its virtual machine, by a real one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host.hypervisor import Exit, UnfitError
from edgevirt.model.base import SwState
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.hardware import Addresses, DomainDevice, IoType
from edgevirt.model.ids import AppId
from tests.worlds.contained import ContainedWorld, contained_world
from tests.worlds.container import ContainerWorld
from tests.worlds.monitored import until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

LOOK = """\
echo "user $(id -u):$(id -g) in $(pwd) on $(hostname)"
echo "said $GREETING"
cat /etc/resolv.conf
echo kept >/data/file && echo "data written"
(echo no >/fixed/file) 2>/dev/null || echo "fixed is read-only"
ls /run2/linked
exit 7
"""


@pytest.fixture
async def world() -> AsyncIterator[ContainedWorld]:
    with contained_world() as made:
        # as many images have it: /var/run leads to /run
        (made.layer / "var").mkdir()
        (made.layer / "var/run").symlink_to("/run2")
        await made.pack()
        try:
            yield made
        finally:
            await made.close()


async def test_all_that_the_node_says_reaches_the_app(world: ContainedWorld) -> None:
    volumes = (
        world.container_volume(),
        world.blank_volume("/data"),
        world.blank_volume("/fixed", readonly=True),
        world.blank_volume("/var/run/linked"),
    )
    image = ImageConfig(entrypoint=("app", "do"), user="app", workdir="/home/app")
    domain = world.domain(LOOK.replace("\n", ";"), image=image, volumes=volumes)
    for volume in volumes[1:]:
        world.open_to_all(volume)
    code, said = await world.output(domain, b"GREETING=hello there\n")
    assert said.splitlines() == [
        "user 1234:2345 in /home/app on box",
        "said hello there",
        "data written",
        "fixed is read-only",
        "lost+found",
    ]
    assert code == 7


CONFIG = b"""\
#cloud-config
runcmd: [GREETING=hello there]
write_files:
  - {path: /var/run/deep/conf, content: "secret words", permissions: "0604"}
  - {path: /etc/passwd, content: "app:x:77:78::/:/bin/sh"}
"""


async def test_files_of_user_data_are_there_before_the_app_is(world: ContainedWorld) -> None:
    image = ImageConfig(entrypoint=("app", "do"), user="app")
    look = "echo $GREETING; cat /run2/deep/conf; echo; ls -l /run2/deep/conf; id -u"
    code, said = await world.output(world.domain(look, image=image), CONFIG)
    assert code == 0
    greeting, words, listed, user = said.splitlines()
    assert (greeting, words, user) == ("hello there", "secret words", "77")
    assert listed.split()[0] == "-rw----r--"


async def test_a_read_only_tree_takes_no_disk_that_somebody_else_could_have(
    world: ContainedWorld,
) -> None:
    tree = world.container_volume(readonly=True, mount_dir="/tree")
    script = "cat /tree/etc/group; touch /tree/x || echo refused"
    domain = world.domain("do", script, volumes=(world.container_volume(), tree))
    with open(tree.path, "rb") as file:
        before = file.read()
    code, said = await world.output(domain)
    assert code == 0
    assert "extra:x:3456:app" in said
    assert "refused" in said
    with open(tree.path, "rb") as file:
        assert file.read() == before


async def test_what_a_machine_wrote_is_not_mounted_by_the_node(world: ContainedWorld) -> None:
    """And what a bare container wrote is there in a machine."""
    volume = world.container_volume()
    bare = ContainerWorld.hypervisor(world)
    domain = world.domain("do", "echo before >/note", volumes=(volume,))
    outside = world.bare(domain)
    await bare.create(outside, b"")
    await bare.start(outside.app)
    await bare.wait_exit(outside.app)
    await bare.delete(outside.app)

    domain = world.domain("do", "cat /note", volumes=(volume,))
    assert domain.mode is VirtualizationMode.PV
    assert await world.output(domain) == (0, "before")
    with pytest.raises(UnfitError, match="purge"):
        await bare.create(outside, b"")
    assert await bare.list() == ()


HEAR = """\
echo $EDGEVIRT_DEVICE_SCALES $(ls /dev | grep tty[SU])
exec <>$EDGEVIRT_DEVICE_SCALES >&0
echo weigh
read weight
[ $weight = 42kg ]
"""


async def test_a_serial_port_of_the_node_is_in_the_machine_under_the_name_that_is_told(
    world: ContainedWorld,
) -> None:
    """Not as root: the app may use them whoever it is."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    name = Path(f"/dev/ttyUSB-test-{os.getpid()}")
    name.symlink_to(os.ttyname(theirs))
    try:
        port = DomainDevice(label="scales", type=IoType.COM, addresses=Addresses(serial=str(name)))
        image = ImageConfig(entrypoint=("app", "do"), user="app")
        domain = world.domain(HEAR.replace("\n", ";"), image=image)
        domain = replace(domain, devices=(port,))
        answered = asyncio.create_task(asyncio.to_thread(_answer, ours))
        code, said = await world.output(domain)
        assert await answered == b"weigh"
        assert said.splitlines() == [f"{name} {name.name}"]
        assert code == 0
    finally:
        name.unlink()
        os.close(ours)
        os.close(theirs)


def _answer(line: int) -> bytes:
    heard = b""
    while not heard.endswith(b"\n"):
        heard += os.read(line, 100)
    os.write(line, b"42kg\n")
    return heard.strip()


FILL = """\
dd if=/dev/zero of=/big bs=64k
rm /big && echo fits >/big && cat /big
dd if=/dev/zero of=/data/big bs=64k
rm /data/big && echo this too >/data/big && cat /data/big
"""


async def test_a_disk_that_the_app_filled_is_its_own_to_hear_of_and_it_lives_on(
    world: ContainedWorld,
) -> None:
    """Its root, and a volume: each at its own bound, which the guest's kernel says."""
    volumes = (world.container_volume(), world.blank_volume("/data"))
    image = ImageConfig(entrypoint=("app", "do"), user="root")
    domain = world.domain(FILL.replace("\n", ";"), image=image, volumes=volumes)
    code, said = await world.output(domain)
    assert said.count("No space left on device") == 2
    assert "fits" in said
    assert "this too" in said
    assert code == 0


async def test_a_container_whose_machine_hears_nothing_is_ended_and_can_be_started_again(
    world: ContainedWorld,
) -> None:
    """QEMU hangs: its monitor takes what it is told, and says nothing."""
    volume = world.container_volume()
    hypervisor = world.hypervisor()
    domain = world.domain("do", "echo ready; sleep 100000", volumes=(volume,))
    await hypervisor.create(domain, b"")
    running = await hypervisor.start(domain.app)
    await world.ready(domain.app)
    world.freeze(running.pid)
    before = world.clock.monotonic()
    await hypervisor.stop(domain.app, graceful=60.0, forced=20.0)
    assert world.clock.monotonic() - before < 30.0
    ended = await hypervisor.info(domain.app)
    assert ended is not None
    assert (ended.state, ended.exit) == (SwState.HALTED, Exit(137))
    again = world.domain("do", "echo again", app=domain.app, volumes=(volume,))
    assert (await world.output(again))[0] == 0


WATCH = """\
[ -e /data/note ] || { echo kept >/data/note; busybox sync; }
room() { busybox df -m $1 | busybox awk 'NR == 2 {print $2}'; }
while :; do
now="note $(cat /data/note) root $(room /) data $(room /data)"
[ "$now" = "$told" ] || echo "$now"
told=$now
sleep 0.2
done
"""
_ROOM = re.compile(r"note (\w*) root (\d+) data (\d+)")


def _rooms(world: ContainedWorld, app: AppId) -> list[tuple[int, int]]:
    """MiB of its root and its data, as the app saw them one after the other; it kept its note."""
    told = (_ROOM.fullmatch(line) for line in world.console(app).splitlines())
    whole = [found for found in told if found]  # a line may still be on its way, or was cut off
    assert all(found[1] == "kept" for found in whole)
    return [(int(found[2]), int(found[3])) for found in whole]


async def test_its_file_systems_grow_while_it_runs_and_when_it_starts(
    world: ContainedWorld,
) -> None:
    mib = 1 << 20
    volumes = (world.container_volume(), world.blank_volume("/data"))
    image = ImageConfig(entrypoint=("app", "do"), user="root")
    domain = world.domain(
        WATCH.replace("do\n", "do ").replace("\n", ";"), image=image, volumes=volumes
    )
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await until(lambda: len(_rooms(world, domain.app)) == 1)
    [(root, data)] = _rooms(world, domain.app)
    assert root <= 8
    assert data <= 8
    sized = tuple(replace(one, size=64 * mib) for one in volumes)
    disks = await hypervisor.grow(replace(domain, volumes=sized))
    assert [(disk.size, disk.why) for disk in disks] == [(64 * mib, "")] * 2
    await until(lambda: any(min(rooms) > 48 for rooms in _rooms(world, domain.app)))
    await hypervisor.delete(domain.app)

    os.truncate(volumes[1].path, 128 * mib)  # as one that no machine has grows
    again = replace(domain, generation=2)
    await hypervisor.create(again, b"")
    await hypervisor.start(domain.app)
    await until(lambda: any(data > 100 for _, data in _rooms(world, domain.app)))
    await hypervisor.stop(domain.app, graceful=60.0, forced=20.0)
    await hypervisor.delete(domain.app)
    for volume in volumes:
        subprocess.run(["e2fsck", "-fn", volume.path], check=True, capture_output=True)
