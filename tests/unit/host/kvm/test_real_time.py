"""A real machine's memory and CPUs, when it has processors of its own.

Which processors it has is only said here: to hold them takes control groups of version 2, and is
tried on the booted operating system.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from edgevirt.host.domain.processors import Partition
from edgevirt.host.kvm import hypervisor as kvm
from edgevirt.host.kvm.qmp import ask, decode_cpus
from tests.worlds.guest import GuestWorld, guest_world

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

KIB = 262_144
"""More than QEMU itself takes."""


class Named(Partition, frozen=True):
    """Holds nothing back."""

    def hold(self, app: str, cpus: object) -> None:
        pass

    def held(self, app: str) -> tuple[int, ...]:
        return (1,)


def memory_of(pid: int) -> dict[str, int]:
    """KiB of its memory that are there, by kind."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) for name, kib in re.findall(r"(\w+):\s+(\d+) kB", rollup)}


@pytest.mark.parametrize("huge", [True, False])
def test_all_of_its_memory_is_there_before_it_runs_and_each_cpu_is_on_its_processor(
    huge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not huge:
        monkeypatch.setattr(kvm, "can_have", lambda size: False)
    with guest_world() as world:
        asyncio.run(_try(world, huge))


async def _try(world: GuestWorld, huge: bool) -> None:
    hypervisor = world.hypervisor()
    hypervisor._partition = Named("none")
    domain = world.domain("wait", memory_kib=KIB, cpus=(1,))
    try:
        await hypervisor.create(domain, b"")
        info = await hypervisor.start(domain.app)
        await world.ready(domain.app)
        memory = memory_of(info.pid)
        if huge:
            assert memory["Private_Hugetlb"] + memory["Shared_Hugetlb"] >= KIB
            assert info.remark == ""
        else:
            assert memory["Rss"] >= KIB
            assert info.remark == "runs in ordinary pages: no room for its memory in huge ones"
        monitor = world.bundle(domain.app).directory / "qmp"
        [cpu] = decode_cpus(await ask(monitor, "query-cpus-fast"))
        assert os.sched_getaffinity(cpu.thread_id) == {1}
    finally:
        await world.close()
