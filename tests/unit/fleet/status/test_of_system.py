"""From what a node tells of its software to how far an update is, in words and events."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.objects.base.object import timestamp
from edgevirt.fleet.objects.node.os import NodeOSStatus
from edgevirt.fleet.status import of_system
from edgevirt.fleet.status.of_system import Wanted
from edgevirt.wire.messages import info

NOW = 1_700_000_000.0
OLD, NEW = "edgevirt-1-kvm-amd64", "edgevirt-2-kvm-amd64"
WANTED = Wanted(NEW)


def running(version: str = OLD, state: str = "active") -> info.ZInfoDevice:
    message = info.ZInfoDevice()
    message.swList.add(
        activated=True, partitionLabel="IMGA", partitionState=state, shortVersion=version,
        status=info.INSTALLED, userStatus=info.UPDATED,
    )  # fmt: skip
    return message


def beside(version: str = NEW, state: str = "unused", **more: Any) -> info.ZInfoDevice:
    """The old version runs, and this is in the other slot or on its way there."""
    message = running()
    message.swList.add(
        partitionLabel="IMGB", partitionState=state, shortVersion=version,
        **more,
    )  # fmt: skip
    return message


def fill(message: info.ZInfoDevice, before: NodeOSStatus | None = None) -> NodeOSStatus:
    status = of_system.fill(before, WANTED, message, NOW)
    assert status is not None
    return status


def error(message: info.ZInfoDevice, why: str) -> info.ZInfoDevice:
    message.swList[1].swErr.description = why
    return message


@pytest.mark.parametrize(
    ("message", "step", "words"),
    [
        (running(), "Waiting", "waits for the node"),
        (beside(userStatus=info.DOWNLOADING, downloadProgress=40), "Downloading",
         "downloading 40%"),
        (beside(userStatus=info.DOWNLOADING, subStatus=info.VERIFY_INPROGRESS), "Verifying",
         "verifying"),
        (beside(userStatus=info.UPDATING, subStatusProgress=12), "Writing", "writing 12%"),
        (beside(subStatus=info.UPDATE_DEFERRED, subStatusStr="too early"), "Deferred",
         "put off: too early"),
        (beside(state="updating"), "Rebooting", f"written; reboots into {NEW}"),
        (running(NEW, "inprogress"), "Testing", "testing since 2023-"),
        (running(NEW), "Updated", f"runs {NEW}"),
        (error(beside(userStatus=info.FAILED), "no room"), "Failed",
         f"cannot update to {NEW}: no room"),
        (error(beside(state="inprogress"), "kernel panic"), "FellBack",
         f"cannot run {NEW}: kernel panic; fell back to {OLD}; refused until "
         "spec.os.retryCounter is raised"),
        (beside(userStatus=info.FALLBACK), "FellBack", "it did not say why"),
        (info.ZInfoDevice(), "Waiting", "waits for the node"),
    ],
)  # fmt: skip
def test_each_step_is_told_in_words(message: info.ZInfoDevice, step: str, words: str) -> None:
    status = fill(message)
    assert status.step == step
    assert words in status.phase
    condition = of_system.condition(status)
    assert condition is not None
    assert (condition.status == "True") == (step == "Updated")


def test_a_version_that_is_only_to_be_fetched_waits_for_more() -> None:
    message = beside(userStatus=info.DOWNLOAD_DONE)
    status = of_system.fill(None, Wanted(NEW, activate=False), message, NOW)
    assert status is not None
    assert (status.step, "spec.os.activate" in status.phase) == ("Staged", True)


def test_slots_are_told_even_if_nothing_is_wanted() -> None:
    status = of_system.fill(None, None, beside(OLD), NOW)
    assert status is not None
    assert [(s.label, s.running, s.state) for s in status.slots] == [
        ("IMGA", True, "active"),
        ("IMGB", False, "unused"),
    ]
    assert status.phase == f"runs {OLD}"
    assert of_system.condition(status) is None
    assert of_system.fill(None, None, info.ZInfoDevice(), NOW) is None


def test_a_step_keeps_the_time_at_which_it_began() -> None:
    first = fill(beside(userStatus=info.DOWNLOADING, downloadProgress=1))
    message = beside(userStatus=info.DOWNLOADING, downloadProgress=90)
    later = of_system.fill(first, WANTED, message, NOW + 60)
    assert later is not None
    assert later.since == timestamp(NOW)


def test_what_is_wanted_shows_before_the_node_has_heard_of_it() -> None:
    before = fill(running(NEW))
    other = of_system.want(before, Wanted("edgevirt-3"), NOW)
    assert other is not None
    assert (other.version, other.step) == ("edgevirt-3", "Waiting")
    assert other.slots == before.slots
    back = of_system.want(other, WANTED, NOW)
    assert back is not None
    assert back.step == "Updated"


def test_why_a_node_is_not_given_a_version_shows() -> None:
    status = of_system.want(None, Wanted(NEW, waiting="Datastore 'hub' does not exist"), NOW)
    assert status is not None
    assert status.phase == "cannot update: Datastore 'hub' does not exist"
    again = of_system.fill(status, Wanted(NEW, waiting=status.waiting), running(), NOW)
    assert again is not None
    assert again.phase == status.phase


def story(*messages: info.ZInfoDevice) -> list[str]:
    """Reasons of all events."""
    told = []
    status: NodeOSStatus | None = of_system.want(fill(running()), WANTED, NOW)
    for message in messages:
        after = fill(message, status)
        told += [event.reason for event in of_system.events(status, after)]
        status = after
    return told


def test_a_good_update_is_a_story_of_three_events() -> None:
    told = story(
        running(),
        beside(userStatus=info.DOWNLOADING, downloadProgress=10),
        beside(userStatus=info.DOWNLOADING, downloadProgress=80),
        beside(userStatus=info.UPDATING),
        beside(state="updating"),
        running(NEW, "inprogress"),
        running(NEW),
        running(NEW),
    )
    assert told == ["UpdateStarted", "Testing", "Committed"]


def test_a_fallback_is_told_once_with_its_reason() -> None:
    failed = error(beside(state="inprogress"), "kernel panic")
    told = story(beside(state="updating"), failed, failed)
    assert told == ["UpdateStarted", "FellBack"]
    before = fill(beside(state="updating"))
    (event,) = of_system.events(before, fill(failed, before))
    assert event.warning
    assert "kernel panic" in event.message


def test_a_retry_is_a_new_story() -> None:
    failed = error(beside(state="inprogress"), "kernel panic")
    again = beside(userStatus=info.UPDATING)
    tested = running(NEW, "inprogress")
    told = story(beside(state="updating"), failed, again, tested, running(NEW))
    assert told == ["UpdateStarted", "FellBack", "UpdateStarted", "Testing", "Committed"]


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(running(), id="a report without the version"),
        pytest.param(beside(), id="a report without a state"),
    ],
)
def test_an_update_begins_once_whatever_is_told_between(between: info.ZInfoDevice) -> None:
    told = story(beside(userStatus=info.DOWNLOADING), between, beside(userStatus=info.UPDATING))
    assert told == ["UpdateStarted"]
    downloading, tested = beside(userStatus=info.DOWNLOADING), running(NEW, "inprogress")
    told = story(downloading, between, tested, running(NEW))
    assert told == ["UpdateStarted", "Testing", "Committed"]


def test_what_was_staged_and_is_activated_later_is_one_update() -> None:
    told = []
    status: NodeOSStatus | None = None
    for wanted, message in (
        (Wanted(NEW, activate=False), beside(userStatus=info.DOWNLOADING)),
        (Wanted(NEW, activate=False), beside(userStatus=info.DOWNLOAD_DONE)),
        (Wanted(NEW), beside(userStatus=info.UPDATING)),
        (Wanted(NEW), running(NEW)),
    ):
        after = of_system.fill(status, wanted, message, NOW)
        told += [event.reason for event in of_system.events(status, after)]
        status = after
    assert told == ["UpdateStarted", "Committed"]


def test_steps_that_were_not_seen_leave_no_gap() -> None:
    assert story(running(NEW)) == ["Committed"]


def test_a_node_that_runs_it_already_has_no_story() -> None:
    status = fill(running(NEW))
    assert list(of_system.events(None, status)) == []
    assert list(of_system.events(status, fill(running(NEW), status))) == []


def test_words_of_a_node_are_bounded() -> None:
    message = error(beside(state="inprogress"), "x" * 100_000)
    for _ in range(1_000):
        message.swList.add(partitionLabel="IMGC")
    status = fill(message)
    assert len(status.phase) <= 500
    assert len(status.slots) <= of_system.MAX_SLOTS


def test_a_node_that_has_just_started_does_not_lose_the_step_that_it_was_at() -> None:
    before = NodeOSStatus(version=NEW, step=of_system.REBOOTING, since=timestamp(1.0))
    assert of_system.fill(before, Wanted(NEW), info.ZInfoDevice(), 2.0) is before
