"""What an operator writes into CONFIG/grub.cfg bounds the node, and a slip does not cut it off."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.host.boot.early import split_arguments
from edgevirt.host.boot.limits import DEFAULTS, Limit, limits_of, parse_cpus, parse_memory
from edgevirt.host.cgroup import Cgroup

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "mebi"),
    [
        ("650M", 650),
        ("eve_mem=650M,max:700M", 700),
        ("dom0_mem=1G,max:1G", 1024),
        ("1G", 1024),
        ("", 0),
        ("much", 0),
        ("-5M", 0),
    ],
)
def test_memory_is_read_in_either_form(text: str, mebi: int) -> None:
    assert parse_memory(text) == mebi * MIB


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("2", 2), ("dom0_max_vcpus=1 dom0_vcpus_pin", 1), ("eve_max_vcpus=3", 3), ("", 0), ("x", 0)],
)
def test_processors_are_read_in_either_form(text: str, cpus: int) -> None:
    assert parse_cpus(text) == cpus


def test_each_group_follows_its_own_argument() -> None:
    line = 'quiet hv_eve_mem_settings="eve_mem=300M,max:320M" hv_dom0_cpu_settings=2 panic=1'
    arguments = dict(word.partition("=")[::2] for word in split_arguments(line))
    limits = limits_of(arguments)
    assert limits["services"] == Limit(320 * MIB)
    assert limits[""] == Limit(DEFAULTS[""].memory, 2)
    assert limits["containerd"] == DEFAULTS["containerd"]


def test_a_bound_too_small_to_be_meant_is_not_taken() -> None:
    assert limits_of({"hv_eve_mem_settings": "650"})["services"] == DEFAULTS["services"]


def test_a_quoted_argument_is_one() -> None:
    assert split_arguments('a="b c" d  e=f\n') == ["a=b c", "d", "e=f"]


def test_in_version_2_each_level_passes_its_controllers_on(tmp_path: Path) -> None:
    for level in ("", "eve", "eve/services"):
        directory = tmp_path / level
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids rdma\n")
        (directory / "cgroup.subtree_control").write_text("")
    group = Cgroup("eve/services/agent", root=tmp_path)
    group.create()
    assert (tmp_path / "eve/services/agent").is_dir()
    for level in ("", "eve", "eve/services"):
        # a plain file keeps the last word written; the kernel would add them up
        assert (tmp_path / level / "cgroup.subtree_control").read_text().startswith("+")
    assert not (tmp_path / "eve/services/agent/cgroup.subtree_control").exists()
    group.bound(memory=5 * MIB, cpus=2)
    assert (tmp_path / "eve/services/agent/memory.max").read_text() == str(5 * MIB)
    assert (tmp_path / "eve/services/agent/cpu.max").read_text() == "200000 100000"
