"""Which processors an app can have for itself, and what is written down of those that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.host.domain.processors import Partition, parse_list, read_cores, write_list
from edgevirt.host.hypervisor import HypervisorError


def level(directory: Path, partition: str = "member") -> None:
    """A group as the kernel makes it."""
    directory.mkdir(exist_ok=True)
    (directory / "cgroup.controllers").write_text("cpuset cpu\n")
    (directory / "cgroup.subtree_control").write_text("")
    (directory / "cpuset.cpus").write_text("\n")
    (directory / "cpuset.cpus.partition").write_text(f"{partition}\n")


@pytest.mark.parametrize(("text", "cpus"), [("0-2,5", (0, 1, 2, 5)), ("3\n", (3,)), ("\n", ())])
def test_sets_of_processors_are_read_as_the_kernel_writes_them(
    text: str, cpus: tuple[int, ...]
) -> None:
    assert parse_list(text) == cpus
    assert parse_list(write_list(cpus)) == cpus


def test_threads_of_a_core_stay_together_and_those_that_are_off_do_not_count(
    tmp_path: Path,
) -> None:
    (tmp_path / "online").write_text("0-2,4\n")
    for cpu, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2")):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    assert read_cores(tmp_path) == ((0, 2), (1,), (4,))


def test_the_partition_holds_what_its_apps_hold(tmp_path: Path) -> None:
    for name in ("", "real-time", "real-time/a", "real-time/b"):
        level(tmp_path / name, "isolated" if name else "member")
    partition = Partition("real-time", tmp_path)
    partition.hold("a", (3, 2))
    partition.hold("b", (5,))
    assert (tmp_path / "real-time/cpuset.cpus").read_text() == "2,3,5"
    assert (partition.held("a"), partition.held("b")) == ((2, 3), (5,))
    for file in (tmp_path / "real-time/a").iterdir():
        file.unlink()
    (tmp_path / "real-time/a").rmdir()
    partition.give_back()
    assert (tmp_path / "real-time/cpuset.cpus").read_text() == "5"
    assert partition.held("a") == ()


def test_a_kernel_that_refuses_is_quoted_and_nothing_is_promised(tmp_path: Path) -> None:
    for name in ("", "real-time", "real-time/a"):
        level(tmp_path / name)
    (tmp_path / "real-time/cpuset.cpus.partition").unlink()
    (tmp_path / "real-time/cpuset.cpus.partition").mkdir()  # neither read nor written
    with pytest.raises(OSError, match="directory"):
        Partition("real-time", tmp_path).hold("a", (1,))


@pytest.mark.parametrize(
    ("controllers", "path", "why"),
    [
        (None, "real-time", "its control groups are of version 1"),
        ("cpu memory", "real-time", "its control groups know no processors"),
        ("cpu cpuset", "user/real-time", "its control groups are below others"),
        ("cpu cpuset", "real-time", ""),
    ],
)
def test_a_machine_that_can_give_none_says_why(
    tmp_path: Path, controllers: str | None, path: str, why: str
) -> None:
    if controllers is not None:
        (tmp_path / "cgroup.controllers").write_text(controllers)
    partition = Partition(path, tmp_path)
    assert partition.refusal() == why
    if why:
        with pytest.raises(HypervisorError, match=f"cannot hold processors: {why}"):
            partition.hold("a", (1,))
    assert partition.held("a") == ()
    partition.give_back()
