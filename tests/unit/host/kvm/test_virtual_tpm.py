"""A virtual machine's own TPM: there from the start, in the cell's rights, and gone with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgevirt.host.hypervisor import UnfitError
from edgevirt.host.kvm import virtual_tpm
from edgevirt.host.kvm.qmp import ask
from edgevirt.model.base import SwState
from edgevirt.model.domain import Domain
from tests.worlds.guest import GuestWorld, guest_world
from tests.worlds.monitored import until


@pytest.fixture
async def world() -> AsyncIterator[GuestWorld]:
    with guest_world() as made:
        try:
            yield made
        finally:
            await made.close()


def tpm_processes(domain: Domain) -> list[int]:
    """Of the app: those in its control group."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            group = (entry / "cgroup").read_text()
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if domain.app in group and name == "swtpm":
            found.append(int(entry.name))
    return found


async def started(world: GuestWorld) -> Domain:
    domain = world.domain("run", tpm=True)
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await world.ready(domain.app)
    return domain


@pytest.mark.root
async def test_the_guest_has_a_tpm_that_has_no_more_rights_than_its_machine(
    world: GuestWorld,
) -> None:
    domain = await started(world)
    monitor = world.bundle(domain.app).directory / "qmp"
    told = await ask(monitor, "query-tpm")
    assert "tpm-crb" in str(told)
    [process] = tpm_processes(domain)
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert fields["Uid"].split()[0] == "64301"
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    ours = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{process}/ns/net").readlink() != ours
    state = world.directory / "tpms" / domain.app / "tpm2-00.permall"
    assert state.stat().st_uid == 64301
    assert state.stat().st_mode & 0o077 == 0


@pytest.mark.root
async def test_it_ends_with_its_machine_and_not_with_the_service(world: GuestWorld) -> None:
    domain = await started(world)
    [process] = tpm_processes(domain)
    another = world.hypervisor()
    info = await another.info(domain.app)
    assert info is not None
    assert info.state == SwState.RUNNING
    assert tpm_processes(domain) == [process]
    world.crash(info)
    await until(lambda: not tpm_processes(domain))


@pytest.mark.root
async def test_what_it_keeps_outlives_its_machine(world: GuestWorld) -> None:
    domain = await started(world)
    state = world.directory / "tpms" / domain.app / "tpm2-00.permall"
    before = state.stat().st_ino, state.read_bytes()
    await world.hypervisor().delete(domain.app)
    assert state.read_bytes() == before[1]
    os.chown(state, 0, 0)  # as after a restore
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    assert len(tpm_processes(domain)) == 1
    assert state.stat().st_uid == 64301


def test_without_swtpm_it_is_said_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnfitError, match="no swtpm to make a TPM with"):
        virtual_tpm.companion(tmp_path / "state", 1)
    assert not (tmp_path / "state").exists()
