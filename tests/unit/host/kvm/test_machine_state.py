"""UEFI variables and a TPM's state, kept and brought back: whole, or as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevirt.host.files import DiskError
from edgevirt.host.kvm.machine_state import MachineStates

APP, ONE = "a0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"


class World:
    def __init__(self, directory: Path) -> None:
        self.kept = directory / "states"
        self.variables = directory / "firmware" / f"{APP}.fd"
        self.tpm = directory / "tpms" / APP
        self.states = MachineStates(self.kept, directory / "firmware", directory / "tpms")
        self.states.begin()

    def write(self, text: str) -> None:
        self.variables.parent.mkdir(exist_ok=True)
        self.variables.write_text(text)
        self.tpm.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.tpm / "tpm2-00.permall").write_text(text)

    def read(self) -> list[str]:
        paths = (self.variables, self.tpm / "tpm2-00.permall")
        return [path.read_text() if path.exists() else "nothing" for path in paths]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_a_machine_had_comes_back_as_often_as_it_is_asked_for(world: World) -> None:
    world.write("then")
    record = world.states.take(ONE, APP, 1.0)
    for counter in (1, 2):
        world.write(f"later {counter}")
        (world.tpm / "more").write_text("x")
        record = world.states.restore(ONE, record, counter)
        assert world.read() == ["then", "then"]
        assert not (world.tpm / "more").exists()
        assert record.restored == counter
    assert world.states.record(ONE) == record
    left = [path.name for path in (*world.variables.parent.iterdir(), *world.tpm.parent.iterdir())]
    assert sorted(left) == sorted([world.variables.name, APP])


def test_what_it_had_not_then_goes(world: World) -> None:
    record = world.states.take(ONE, APP, 1.0)
    world.write("later")
    world.states.restore(ONE, record, 1)
    assert world.read() == ["nothing", "nothing"]


def test_what_a_crash_left_half_kept_is_nothing(world: World) -> None:
    world.write("then")
    world.states.take(ONE, APP, 1.0)
    (world.kept / ONE / "record.json").unlink()
    world.states.begin()
    assert world.states.records() == {}
    assert list(world.kept.iterdir()) == []
    assert world.read() == ["then", "then"]


def test_its_files_stay_its_own(world: World) -> None:
    world.write("then")
    record = world.states.take(ONE, APP, 1.0)
    world.states.restore(ONE, record, 1)
    assert world.tpm.stat().st_mode & 0o777 == 0o700
    assert (world.kept / ONE).stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def test_and_their_owner_s(world: World) -> None:
    world.write("then")
    inside = world.tpm / "tpm2-00.permall"
    for path in (world.tpm, inside):
        os.chown(path, 70_001, 70_001)
    record = world.states.take(ONE, APP, 1.0)
    world.write("later")
    world.states.restore(ONE, record, 1)
    assert {path.stat().st_uid for path in (world.tpm, inside)} == {70_001}


def test_a_disk_that_fails_leaves_the_machine_what_it_had(world: World) -> None:
    world.write("then")
    world.kept.rmdir()
    world.kept.write_text("in the way")
    with pytest.raises(DiskError, match="cannot keep the state"):
        world.states.take(ONE, APP, 1.0)
    assert world.read() == ["then", "then"]


def test_a_deletion_leaves_nothing(world: World) -> None:
    world.write("then")
    world.states.take(ONE, APP, 1.0)
    world.states.remove(ONE)
    world.states.remove(ONE)
    assert list(world.kept.iterdir()) == []
