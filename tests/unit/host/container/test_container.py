"""What an app in a container finds, and what it may not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgevirt.host import mounts
from edgevirt.host.container.hypervisor import _Moved
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import Domain, DomainVolume
from tests.worlds.container import ContainerWorld, network_namespace
from tests.worlds.monitored import until

pytestmark = pytest.mark.root


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ContainerWorld]:
    containers = ContainerWorld(tmp_path)
    try:
        yield containers
    finally:
        await containers.close()


def image(**fields: object) -> ImageConfig:
    return ImageConfig(entrypoint=("/bin/app",), **fields)  # type: ignore[arg-type]


async def test_environment_of_the_image_is_overridden_by_user_data(world: ContainerWorld) -> None:
    domain = world.domain("do", "env", image=image(env=("A=image", "B=image", "EMPTY=")))
    code, said = await world.output(domain, b"# comment\nB=user data=1\n\nC=c\n")
    assert code == 0
    assert {"A=image", "B=user data=1", "C=c", "EMPTY="} <= set(said.splitlines())
    assert "B=image" not in said


async def test_files_of_user_data_are_there_before_the_app_is(world: ContainerWorld) -> None:
    """Its user too is looked up in them."""
    image = ImageConfig(entrypoint=("/bin/app", "do"), user="app")
    config = b"""\
#cloud-config
runcmd: [GREETING=hello]
write_files:
  - {path: /deep/er/conf, content: words, permissions: "0604"}
  - {path: /etc/passwd, content: "app:x:77:78::/:/bin/sh"}
"""
    look = "echo $GREETING $(cat /deep/er/conf) $(id -u); ls -l /deep/er/conf"
    code, said = await world.output(world.domain(look, image=image), config)
    assert code == 0
    assert said.startswith("hello words 77\n-rw----r--")


async def test_command_in_user_data_replaces_the_image_s(world: ContainerWorld) -> None:
    code, said = await world.output(world.domain("exit", "9"), b"EVE_ECO_CMD=/bin/echo a  b\n")
    assert (code, said) == (0, "a b")


async def test_app_runs_as_the_named_user_in_its_directory(world: ContainerWorld) -> None:
    domain = world.domain("do", "id; pwd", image=image(user="app", workdir="/home/app"))
    code, said = await world.output(domain)
    assert code == 0
    assert said == "uid=1234(app) gid=2345(app) groups=2345(app),3456(extra)\n/home/app"


async def test_numeric_user_and_group_need_not_be_in_the_image(world: ContainerWorld) -> None:
    code, said = await world.output(world.domain("do", "id", image=image(user="77:88")))
    assert (code, said) == (0, "uid=77 gid=88 groups=88")


async def test_user_that_the_image_lacks_is_unfit(world: ContainerWorld) -> None:
    domain = world.domain("run", image=image(user="nobody"))
    with pytest.raises(UnfitError, match="no user 'nobody'"):
        await world.hypervisor().create(domain, b"")
    assert mounts.below(world.directory) == []


async def test_name_and_resolver_are_the_domain_s(world: ContainerWorld) -> None:
    domain = world.domain("do", "hostname; cat /etc/resolv.conf; grep box /etc/hosts")
    with_dns = _replaced(domain, dns=("10.1.0.1", "10.1.0.2"))
    code, said = await world.output(with_dns)
    assert code == 0
    assert said.split("\n") == [
        "box",
        "nameserver 10.1.0.1",
        "nameserver 10.1.0.2",
        "127.0.1.1\tbox",
    ]


async def test_what_the_app_writes_to_its_root_survives_a_new_domain(world: ContainerWorld) -> None:
    root = world.container_volume()
    assert await world.output(world.domain("do", "echo kept >/data", volumes=(root,))) == (0, "")
    assert await world.output(world.domain("do", "cat /data", volumes=(root,))) == (0, "kept")
    assert not (world.layer / "data").exists()


async def test_an_app_that_fills_its_root_fills_its_own_file_system_alone(
    world: ContainerWorld,
) -> None:
    root = world.container_volume()
    fill = world.domain("do", "dd if=/dev/zero of=/fill bs=64k; rm /fill", volumes=(root,))
    code, said = await world.output(fill)
    assert "No space left on device" in said
    assert code == 0
    write = world.domain("do", "echo fits >/data; cat /data", volumes=(root,))
    assert await world.output(write) == (0, "fits")
    assert not _loop_devices_of(root)


async def test_blank_volume_is_mounted_and_keeps_its_files(world: ContainerWorld) -> None:
    disk = world.blank_volume("/var/lib/data")
    root = world.container_volume()
    write = "grep /var/lib/data /proc/mounts; echo kept >/var/lib/data/file"
    code, said = await world.output(world.domain("do", write, volumes=(root, disk)))
    assert code == 0
    assert "ext4" in said
    assert "nosuid,nodev" in said
    read = world.domain("do", "cat /var/lib/data/file", volumes=(root, disk))
    assert await world.output(read) == (0, "kept")
    assert not _loop_devices_of(disk)


async def test_read_only_volumes_cannot_be_written(world: ContainerWorld) -> None:
    volumes = (
        world.container_volume(readonly=True),
        world.blank_volume("/disk", readonly=True),
        world.container_volume(readonly=True, mount_dir="/tree"),
    )
    attempts = "; ".join(f"touch {path} && echo wrote" for path in ("/x", "/disk/x", "/tree/x"))
    _, said = await world.output(world.domain("do", attempts, volumes=volumes))
    assert "wrote" not in said
    assert said.count("Read-only file system") == 3


async def test_a_read_only_tree_is_shared_by_apps_that_run_at_the_same_time(
    world: ContainerWorld,
) -> None:
    tree = world.container_volume(readonly=True, mount_dir="/tree")
    first = world.domain("run", volumes=(world.container_volume(), tree))
    await world.hypervisor().create(first, b"")
    await world.hypervisor().start(first.app)
    second = world.domain("do", "cat /tree/etc/group", volumes=(world.container_volume(), tree))
    code, said = await world.output(second)
    assert code == 0
    assert "extra:x:3456:app" in said
    assert not _loop_devices_of(tree), "what nobody writes is mounted from nowhere"
    await world.hypervisor().delete(first.app)


async def test_volume_without_a_place_gets_one_by_its_number(world: ContainerWorld) -> None:
    volumes = (world.container_volume(), world.container_volume())
    domain = world.domain("do", "cat /dev/eve/volumes/by-id/1/etc/group", volumes=volumes)
    code, said = await world.output(domain)
    assert code == 0
    assert "extra:x:3456:app" in said


async def test_volume_that_is_no_ext4_image_is_refused_and_nothing_stays_mounted(
    world: ContainerWorld,
) -> None:
    path = world.directory / "junk"
    path.write_bytes(b"\0" * 65_536)
    junk = DomainVolume(path=str(path), format=ContentFormat.RAW, mount_dir="/disk")
    domain = world.domain("run", volumes=(world.container_volume(), junk))
    with pytest.raises(HypervisorError, match="cannot mount"):
        await world.hypervisor().create(domain, b"")
    assert mounts.below(world.directory) == []
    assert await world.hypervisor().list() == ()


async def test_more_layers_than_a_page_of_paths_are_stacked_in_order(world: ContainerWorld) -> None:
    layers = [str(world.layer)]
    for number in range(100):
        layer = world.directory / f"layer-{number:03}-{'x' * 80}"
        layer.mkdir()
        (layer / "top").write_text(str(number))
        layers.append(str(layer))
    root = world.container_volume()
    volume = DomainVolume(path=root.path, format=root.format, layers=tuple(layers))
    code, said = await world.output(world.domain("do", "cat /top", volumes=(volume,)))
    assert (code, said.strip()) == (0, "99")


async def test_app_joins_the_network_namespace_it_was_given(world: ContainerWorld) -> None:
    with network_namespace() as (path, interface):
        domain = world.domain("do", "ip link", netns=path)
        code, said = await world.output(domain)
    assert code == 0
    assert interface in said


async def test_app_without_a_network_sees_no_interface_of_the_node(world: ContainerWorld) -> None:
    code, said = await world.output(world.domain("do", "ls /sys/class/net"))
    assert (code, said) == (0, "lo")


async def test_missing_network_is_waited_for_not_refused(world: ContainerWorld) -> None:
    domain = world.domain("run", netns=str(world.directory / "netns"))
    with pytest.raises(HypervisorError, match="no network at") as failure:
        await world.hypervisor().create(domain, b"")
    assert not isinstance(failure.value, UnfitError)


async def test_limits_are_in_the_control_group(world: ContainerWorld) -> None:
    domain = _replaced(world.domain("run", memory_kib=20_480), vcpus=2)
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    group = world.cgroup(domain.app)
    usage = group.usage()
    assert usage is not None
    assert usage.memory_limit == 20_480 * 1024
    if group.unified:
        quota = Path("/sys/fs/cgroup", group.path, "cpu.max").read_text().split()[0]
        pids = Path("/sys/fs/cgroup", group.path, "pids.max").read_text()
    else:
        quota = Path("/sys/fs/cgroup/cpu", group.path, "cpu.cfs_quota_us").read_text()
        pids = Path("/sys/fs/cgroup/pids", group.path, "pids.max").read_text()
    assert int(quota) == 200_000
    assert int(pids) == 4096
    await hypervisor.delete(domain.app)
    assert not group.exists()


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "mknod /tmp/disk b 8 0 && dd if=/tmp/disk of=/dev/null count=1",
        "echo 1 >/proc/sys/vm/drop_caches",
        "echo b >/proc/sysrq-trigger",
        "cd /sys/fs/cgroup; echo 1G >$(ls memory/memory.limit_in_bytes memory.max)",
        "chmod 777 /etc/hosts",
    ],
)
async def test_root_in_a_container_may_not(world: ContainerWorld, attempt: str) -> None:
    code, _ = await world.output(world.domain("do", f"if {attempt}; then exit 0; fi; exit 42"))
    assert code == 42


async def test_setuid_program_gains_nothing(world: ContainerWorld) -> None:
    domain = world.domain("do", "grep -E 'NoNewPrivs|CapInh|Seccomp:' /proc/self/status")
    _, said = await world.output(domain)
    assert said.split() == ["CapInh:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]


async def test_app_sees_no_process_but_its_own(world: ContainerWorld) -> None:
    _, said = await world.output(world.domain("do", "echo $$; ls -d /proc/[0-9]*"))
    assert said.split("\n")[0] == "1"
    assert len(said.split("\n")) <= 3


async def test_user_data_secret_is_in_no_readable_file_and_no_command_line(
    world: ContainerWorld,
) -> None:
    domain = world.domain("run")
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"TOKEN=hunter2-secret\n")
    info = await hypervisor.start(domain.app)
    bundle = world.bundle(domain.app)
    assert bundle.directory.stat().st_mode & 0o077 == 0
    assert (bundle.directory / "config.json").stat().st_mode & 0o077 == 0
    record = bundle.read_record()
    assert record is not None
    for pid in (info.pid, record.monitor.pid):
        assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"hunter2" not in Path(f"/proc/{record.monitor.pid}/environ").read_bytes()


async def test_half_made_container_is_found_broken_and_removed(world: ContainerWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"")
    (world.bundle(domain.app).directory / "record.json").unlink()
    (info,) = await world.hypervisor().list()
    assert info.state == SwState.BROKEN
    await world.hypervisor().delete(domain.app)
    assert await world.hypervisor().list() == ()
    assert mounts.below(world.directory) == []
    assert not world.cgroup(domain.app).exists()


async def test_runtime_that_dies_while_it_creates_leaves_nothing(world: ContainerWorld) -> None:
    wrapper = world.directory / "runc"
    wrapper.write_text('#!/bin/sh\ncase "$*" in *create*) kill -9 $$;; esac\nexec runc "$@"\n')
    wrapper.chmod(0o755)
    hypervisor, domain = world.hypervisor(program=str(wrapper)), world.domain("run")
    with pytest.raises(HypervisorError, match="cannot create"):
        await hypervisor.create(domain, b"")
    assert await hypervisor.list() == ()
    assert not world.cgroup(domain.app).exists()


async def test_stopped_monitor_does_not_hide_that_the_app_ended(world: ContainerWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"")
    info = await hypervisor.start(domain.app)
    await world.ready(domain.app)
    record = world.bundle(domain.app).read_record()
    assert record is not None
    world.freeze(record.monitor.pid)
    waiting = asyncio.create_task(world.hypervisor().wait_exit(domain.app))
    world.crash(info)
    ended = await waiting
    assert ended is not None
    assert ended.state == SwState.BROKEN
    await hypervisor.delete(domain.app)
    assert await hypervisor.list() == ()


async def test_console_file_does_not_grow_without_bound(world: ContainerWorld) -> None:
    hypervisor = world.hypervisor(console_bytes=65_536)
    domain = world.domain("do", "while :; do echo 0123456789012345678901234567890123456789; done")
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    console = world.directory / "consoles" / f"{domain.app}.log"
    first = console.stat().st_ino
    await until(lambda: console.stat().st_ino != first)
    assert console.stat().st_size <= 65_536 + 8192


async def test_container_survives_while_nobody_drives_it(world: ContainerWorld) -> None:
    domain = world.domain("run")
    await world.hypervisor().create(domain, b"")
    info = await world.hypervisor().start(domain.app)
    await world.ready(domain.app)
    record = world.bundle(domain.app).read_record()
    assert record is not None
    parent = Path(f"/proc/{record.monitor.pid}/stat").read_text().rpartition(") ")[2].split()[1]
    assert int(parent) != info.pid
    assert Path(f"/proc/{info.pid}/stat").read_text().rpartition(") ")[2].split()[1] == str(
        record.monitor.pid
    )


def _loop_devices_of(volume: DomainVolume) -> list[Path]:
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return [file for file in files if file.read_text().strip() == volume.path]


def _replaced(domain: Domain, **fields: object) -> Domain:
    return replace(domain, **fields)


def test_what_an_older_program_wrote_of_a_made_container_s_interfaces_is_read() -> None:
    written = msgspec.json.encode(("/run/netns/app", (("eth1", None),)))
    assert msgspec.json.decode(written, type=_Moved) == _Moved("/run/netns/app", (("eth1", None),))
