"""A controller sees the running slot first, and of the other what matters now."""

from __future__ import annotations

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import BaseOsStatus, Slot, SlotState, UpdateStep
from edgevirt.wire.convert.software import software
from edgevirt.wire.messages import info

OLD, NEW, NEWER = "1", "2", "3"
A = Slot(label="IMGA", state=SlotState.ACTIVE, current=True, version=OLD, device="/dev/vda2")
B = Slot(label="IMGB", state=SlotState.UNUSED, current=False)


def status(step: UpdateStep, **fields: object) -> BaseOsStatus:
    given = {"version": NEW, "current": "IMGA", **fields}
    return BaseOsStatus(step=step, since=1.0, **given)  # type: ignore[arg-type]


def test_a_node_that_runs_what_it_should_says_so() -> None:
    running, other = software([B, A], status(UpdateStep.DONE, version=OLD), "x")
    assert (running.shortVersion, running.partitionState) == (OLD, "active")
    assert running.activated
    assert running.userStatus == info.UPDATED
    assert (other.partitionLabel, other.userStatus) == ("IMGB", info.NONE)


def test_what_is_fetched_is_told_apart_from_the_slots() -> None:
    coming = software(
        [A, B], status(UpdateStep.FETCHING, content=SwState.DOWNLOADING, progress=40), "x"
    )[2]
    assert coming.partitionLabel == ""
    assert (coming.shortVersion, coming.downloadProgress) == (NEW, 40)
    assert coming.subStatus == info.DOWNLOAD_INPROGRESS


def test_a_write_is_told_of_the_slot_that_it_goes_to() -> None:
    _, other = software([A, B], status(UpdateStep.WRITING, progress=30), "x")
    assert (other.partitionLabel, other.shortVersion) == ("IMGB", NEW)
    assert (other.subStatus, other.subStatusProgress) == (info.UPDATE_INITIALIZING, 30)


def test_a_version_under_test_is_not_called_good() -> None:
    trying = Slot(label="IMGB", state=SlotState.INPROGRESS, current=True, version=NEW)
    rest = Slot(label="IMGA", state=SlotState.ACTIVE, current=False, version=OLD)
    running, other = software([rest, trying], status(UpdateStep.TESTING, test_left=90.0), "x")
    assert (running.userStatus, running.subStatus) == (info.UPDATING, info.UPDATE_TESTING)
    assert "90 s" in running.subStatusStr
    assert (other.shortVersion, other.partitionState) == (OLD, "active")


def test_a_version_that_failed_says_why_while_another_is_on_its_way() -> None:
    failed = Slot(
        label="IMGB",
        state=SlotState.INPROGRESS,
        current=False,
        version=NEW,
        trouble=Trouble(why="kernel panic", since=1.0),
    )
    _, other = software([A, failed], status(UpdateStep.FAILED), "x")
    assert other.userStatus == info.FAILED
    assert other.swErr.description == "kernel panic"
    _, other, coming = software([A, failed], status(UpdateStep.FETCHING, version=NEWER), "x")
    assert (other.shortVersion, other.swErr.description) == (NEW, "kernel panic")
    assert (coming.shortVersion, coming.partitionLabel) == (NEWER, "")


def test_where_nothing_is_known_of_slots_the_program_tells_its_version() -> None:
    (running,) = software([], None, "0.1.0")
    assert (running.shortVersion, running.partitionLabel) == ("0.1.0", "IMGA")


def test_a_trial_that_knows_nothing_of_its_slots_yet_does_not_pass_for_an_active_one() -> None:
    assert software([], None, "") == []


def test_the_other_slot_alone_is_not_told_as_what_runs() -> None:
    assert software([B], None, "") == []
