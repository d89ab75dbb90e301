"""Figures are read alike from both versions of control groups."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from edgevirt.host.cgroup import Cgroup, Usage, swap_limited
from tests.worlds.monitored import until

V1 = {
    "memory/eve/a/memory.usage_in_bytes": "5\n",
    "memory/eve/a/memory.max_usage_in_bytes": "6\n",
    "memory/eve/a/memory.limit_in_bytes": "7\n",
    "memory/eve/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "cpuacct/eve/a/cpuacct.usage": "123\n",
    "blkio/eve/a/blkio.throttle.io_service_bytes": (
        "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"
    ),
}
V2 = {
    "cgroup.controllers": "cpu io memory pids\n",
    "eve/a/memory.current": "5\n",
    "eve/a/memory.peak": "6\n",
    "eve/a/memory.max": "7\n",
    "eve/a/memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n",
    "eve/a/cpu.stat": "usage_usec 4\nuser_usec 1\n",
    "eve/a/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=1 wbytes=2\n",
}


def tree(root: Path, files: dict[str, str]) -> Cgroup:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Cgroup("eve/a", root)


def test_version_1(tmp_path: Path) -> None:
    group = tree(tmp_path, V1)
    assert not group.unified
    assert group.usage() == Usage(123, 5, 6, 7, 11, 22)
    assert group.out_of_memory()


def test_version_2(tmp_path: Path) -> None:
    group = tree(tmp_path, V2)
    assert group.unified
    assert group.usage() == Usage(4000, 5, 6, 7, 11, 22)
    assert group.out_of_memory()


def test_group_without_limits_and_old_kernels_lack_some_figures(tmp_path: Path) -> None:
    group = tree(tmp_path, {**V2, "eve/a/memory.max": "max\n"})
    (tmp_path / "eve/a/memory.peak").unlink()
    usage = group.usage()
    assert usage is not None
    assert (usage.memory_limit, usage.memory_peak) == (0, 0)
    old = tree(tmp_path / "1", {**V1, "memory/eve/a/memory.limit_in_bytes": f"{(1 << 63) - 4096}"})
    usage = old.usage()
    assert usage is not None
    assert usage.memory_limit == 0


def test_group_that_is_gone_has_no_figures(tmp_path: Path) -> None:
    tree(tmp_path, V2)
    gone = Cgroup("eve/b", tmp_path)
    assert gone.usage() is None
    assert not gone.out_of_memory()
    assert gone.pids() == frozenset()


def test_swap_can_be_limited_in_version_2_and_where_version_1_counts_it(tmp_path: Path) -> None:
    assert not swap_limited(tmp_path)
    tree(tmp_path, {"memory/memory.memsw.limit_in_bytes": "1"})
    assert swap_limited(tmp_path)
    tree(tmp_path / "2", V2)
    assert swap_limited(tmp_path / "2")


@pytest.mark.root
async def test_group_of_this_machine_holds_kills_and_goes() -> None:
    group = Cgroup(f"edgevirt-test-{uuid.uuid4().hex[:8]}/inner")
    process = subprocess.Popen(["sleep", "1000"])
    try:
        group.create()
        group.create()
        group.add(process.pid)
        assert group.pids() == {process.pid}
        assert group.remove() is False
        group.kill()
        process.wait()
        parent = Cgroup(group.path.partition("/")[0])
        await until(parent.remove)
        assert not group.exists()
    finally:
        process.kill()
        process.wait()
        Cgroup(group.path.partition("/")[0]).remove()
