"""One watcher's backlog: bounded, in order, and true at every InStep."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.runtime import Event, InStep, Kind, Put, Resource
from edgevirt.runtime.table import Table
from edgevirt.runtime.watching import Backlog, Watch

KIND = Kind("Number", int)


class Quiet(Backlog[int]):
    def _rouse(self) -> None:
        pass


def resource(key: str, version: int) -> Resource[int]:
    return Resource(KIND, key, version, version)


def taken(backlog: Backlog[int]) -> list[Event[int]]:
    events = []
    while (event := backlog.poll()) is not None:
        events.append(event)
    return events


def told(events: list[Event[int]]) -> list[tuple[str, str, int]]:
    return [
        ("in step", "", event.version)
        if isinstance(event, InStep)
        else (type(event).__name__, event.resource.key, event.resource.version)
        for event in events
    ]


def test_of_one_key_the_last_value_alone_is_held() -> None:
    backlog = Quiet()
    for version in range(1, 1000):
        backlog.put(resource("a", version), new=version == 1)
    assert backlog.waiting() == 1
    assert told(taken(backlog)) == [("Put", "a", 999)]


def test_a_key_that_came_and_went_unseen_is_forgotten() -> None:
    backlog = Quiet()
    for version in range(1, 1000, 2):
        backlog.put(resource(str(version), version), new=True)
        backlog.gone(resource(str(version), version + 1))
    assert backlog.waiting() == 0
    assert taken(backlog) == []


def test_a_key_that_the_watcher_knew_is_told_gone_though_it_changed_unseen() -> None:
    backlog = Quiet()
    backlog.put(resource("a", 1), new=True)
    taken(backlog)
    backlog.put(resource("a", 2), new=False)
    backlog.gone(resource("a", 3))
    assert told(taken(backlog)) == [("Gone", "a", 3)]


def test_a_key_that_went_and_came_again_is_told_as_it_is_now() -> None:
    backlog = Quiet()
    backlog.put(resource("a", 1), new=True)
    taken(backlog)
    backlog.gone(resource("a", 2))
    backlog.put(resource("a", 3), new=True)
    assert told(taken(backlog)) == [("Put", "a", 3)]
    backlog.gone(resource("a", 4))
    backlog.put(resource("a", 5), new=True)
    backlog.gone(resource("a", 6))
    assert told(taken(backlog)) == [("Gone", "a", 6)]


def test_what_was_fed_before_the_mark_is_told_before_it_also_when_it_changes_again() -> None:
    backlog = Quiet()
    backlog.put(resource("a", 1), new=True)
    backlog.put(resource("b", 2), new=True)
    backlog.in_step(2)
    backlog.put(resource("a", 3), new=False)
    backlog.put(resource("c", 4), new=True)
    assert told(taken(backlog)) == [
        ("Put", "a", 3), ("Put", "b", 2), ("in step", "", 2), ("Put", "c", 4),
    ]  # fmt: skip


def test_marks_that_nobody_took_become_one() -> None:
    backlog = Quiet()
    for version in range(100):
        backlog.put(resource("a", version), new=version == 0)
        backlog.in_step(version)
    assert told(taken(backlog)) == [("Put", "a", 99), ("in step", "", 99)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "gone"]), st.sampled_from("abcd")),
        st.tuples(st.just("mark"), st.just("")),
        st.tuples(st.just("poll"), st.sampled_from(["1", "2", "9"])),
    ),
    max_size=60,
)


@given(before=st.sets(st.sampled_from("abcd")), steps=STEPS)
def test_whatever_happens_the_watcher_ends_with_the_truth(
    before: set[str], steps: list[tuple[str, str]]
) -> None:
    table: Table[int] = Table(KIND)
    version = 0
    for key in sorted(before):
        version += 1
        table.set(resource(key, version))
    backlog = Quiet()
    table.subscribe(backlog)
    known: dict[str, int] = {}
    versions: dict[str, int] = {}
    bookmarks = "mark" not in {step for step, _ in steps}

    def take(limit: int) -> None:
        for _ in range(limit):
            event = backlog.poll()
            if event is None:
                return
            if isinstance(event, InStep):
                continue
            key = event.resource.key
            if isinstance(event, Put):
                known[key] = event.resource.value
            else:
                assert key in known, "told gone of what it never knew"
                del known[key]
            last = versions.get("" if bookmarks else key, 0)
            assert event.resource.version > last, "going on from there would miss something"
            versions["" if bookmarks else key] = event.resource.version

    for step, argument in steps:
        version += 1
        if step == "put":
            table.set(resource(argument, version))
        elif step == "gone" and argument in table.present:
            table.remove(argument, version)
        elif step == "mark":
            table.in_step()
        elif step == "poll":
            take(int(argument))
        assert backlog.waiting() <= 4
    take(1000)
    assert known == {key: item.value for key, item in table.present.items()}


async def test_a_watch_ends_where_it_was_closed_or_failed() -> None:
    closed: Watch[int] = Watch()
    waiting = asyncio.create_task(anext(closed, None))
    await asyncio.sleep(0)
    await closed.aclose()
    assert await waiting is None
    failed: Watch[int] = Watch()
    failed.begin(chain((Put(resource("a", 1)),), (InStep(1),)))
    assert isinstance(await anext(failed), Put)
    failed.fail(LookupError("lost"))
    with pytest.raises(LookupError, match="lost"):
        await anext(failed)


async def test_a_watcher_that_was_cancelled_while_it_waited_goes_on() -> None:
    watch: Watch[int] = Watch()
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    watch.put(resource("a", 1), new=True)
    event = await anext(watch)
    assert isinstance(event, Put)
