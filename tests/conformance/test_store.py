"""The laws of the Store (runtime/store.py), on every driver."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from edgevirt.runtime import ABSENT, Conflict, Expired, Gone, InStep, Put
from edgevirt.runtime.sql import HISTORY
from tests.conformance.store_drivers import (
    OTHER,
    Arena,
    Follower,
    Thing,
    open_sql,
    take,
    take_snapshot,
)

STRANGE_KEYS = [
    "", ".", "..", "a/b", "../../etc/passwd", "A", "a", "%41", "é", "\x00", "\n", "~", "a.prev",
    "a.new", "x" * 300, "x" * 299 + "y", "ü" * 300, "#1", "a~b", " ", "日本",
]  # fmt: skip


def known(arena: Arena) -> Follower:
    return Follower(arena.reader.watch(arena.kind))


# -- law 1: snapshot, in step, changes --


async def test_a_watch_begins_with_what_there_is_then_in_step_then_changes(arena: Arena) -> None:
    for number in range(3):
        await arena.owner.put(arena.kind, str(number), Thing(number))
    watch = arena.reader.watch(arena.kind)
    assert await take_snapshot(watch) == {str(n): Thing(n) for n in range(3)}
    await arena.owner.put(arena.kind, "1", Thing(10))
    await arena.owner.delete(arena.kind, "2")
    changed, gone = await take(watch, 2)
    assert isinstance(changed, Put)
    assert changed.resource.value == Thing(10)
    assert isinstance(gone, Gone)
    assert gone.resource.value == Thing(2)


async def test_a_watch_of_nothing_is_in_step_at_once(arena: Arena) -> None:
    (event,) = await take(arena.reader.watch(arena.kind), 1)
    assert isinstance(event, InStep)


async def test_a_watcher_hears_of_its_kind_alone(arena: Arena) -> None:
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    await arena.owner.put(OTHER, "other", Thing(1))
    await arena.owner.put(arena.kind, "mine", Thing(2))
    (event,) = await take(watch, 1)
    assert isinstance(event, Put)
    assert event.resource.key == "mine"


async def test_versions_ascend_in_a_watch_so_that_any_event_is_a_bookmark(arena: Arena) -> None:
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    for number in range(30):
        await arena.owner.put(arena.kind, str(number % 7), Thing(number))
    follower = Follower(watch)
    await follower.until(lambda f: f.values.get("1") == Thing(29))
    versions = [e.resource.version for e in follower.events if isinstance(e, Put)]
    assert all(before < after for before, after in pairwise(versions))
    await follower.stop()


async def test_a_slow_watcher_ends_with_the_last_value_of_each_key(arena: Arena) -> None:
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    for number in range(500):
        await arena.owner.put(arena.kind, str(number % 5), Thing(number))
    await arena.owner.delete(arena.kind, "0")
    follower = Follower(watch)
    await follower.until(lambda f: f.values == {str(n): Thing(495 + n) for n in range(1, 5)})
    await follower.stop()


async def test_every_watcher_converges(arena: Arena) -> None:
    followers = [known(arena) for _ in range(4)]
    for number in range(40):
        await arena.owner.put(arena.kind, str(number % 10), Thing(number))
        if number % 3 == 0:
            await arena.owner.delete(arena.kind, str((number + 3) % 10))
    present = {k: r.value for k, r in (await arena.owner.list(arena.kind)).items()}
    for follower in followers:
        await follower.until(lambda f: f.values == present and f.in_step == 1)
        await follower.stop()


async def test_a_watcher_that_gives_up_disturbs_nobody(arena: Arena) -> None:
    follower = known(arena)
    await follower.until(lambda f: f.in_step == 1)
    await follower.stop()
    other = known(arena)
    await arena.owner.put(arena.kind, "a", Thing(1))
    await other.until(lambda f: f.values == {"a": Thing(1)})
    await other.stop()


async def test_a_watch_that_nobody_holds_is_not_fed_for_ever(arena: Arena) -> None:
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    remains = weakref.ref(watch)
    del watch
    for _ in range(100):
        await asyncio.sleep(0)
        gc.collect()
        if remains() is None:
            return
    pytest.fail("the store still holds the watch")


async def test_closing_the_store_ends_its_watches(arena: Arena) -> None:
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    await arena.reader.close()
    with pytest.raises(StopAsyncIteration):
        await take(watch, 1)


# -- law 2: equal values --


async def test_an_equal_value_changes_nothing_and_wakes_nobody(arena: Arena) -> None:
    first = await arena.owner.put(arena.kind, "a", Thing(1, "x"))
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    again = await arena.owner.put(arena.kind, "a", Thing(1, "x"))
    assert again.version == first.version
    await arena.owner.put(arena.kind, "b", Thing(2))
    (event,) = await take(watch, 1)
    assert isinstance(event, Put)
    assert event.resource.key == "b"


# -- law 4: versions and expectations --


async def test_versions_grow_and_never_repeat_also_over_deletion(arena: Arena) -> None:
    seen = []
    for number in range(5):
        seen.append((await arena.owner.put(arena.kind, "a", Thing(number))).version)
        seen.append((await arena.owner.put(arena.kind, "a", Thing(-1 - number))).version)
        assert await arena.owner.delete(arena.kind, "a")
    assert seen == sorted(set(seen))
    assert seen[0] > ABSENT


async def test_a_deletion_has_a_version_of_its_own(arena: Arena) -> None:
    put = await arena.owner.put(arena.kind, "a", Thing(1))
    watch = arena.reader.watch(arena.kind)
    await take_snapshot(watch)
    await arena.owner.delete(arena.kind, "a")
    (gone,) = await take(watch, 1)
    assert isinstance(gone, Gone)
    assert gone.resource.version > put.version
    assert gone.resource.value == Thing(1)


async def test_a_write_with_a_wrong_expectation_is_refused_and_writes_nothing(
    arena: Arena,
) -> None:
    with pytest.raises(Conflict):
        await arena.owner.put(arena.kind, "a", Thing(1), expect=7)
    first = await arena.owner.put(arena.kind, "a", Thing(1), expect=ABSENT)
    with pytest.raises(Conflict):
        await arena.owner.put(arena.kind, "a", Thing(2), expect=ABSENT)
    with pytest.raises(Conflict):
        await arena.owner.put(arena.kind, "a", Thing(1), expect=first.version + 1)
    with pytest.raises(Conflict):
        await arena.owner.delete(arena.kind, "a", expect=first.version + 1)
    assert await arena.owner.get(arena.kind, "a") == first
    second = await arena.owner.put(arena.kind, "a", Thing(2), expect=first.version)
    assert await arena.owner.delete(arena.kind, "a", expect=second.version)
    assert await arena.owner.get(arena.kind, "a") is None


async def test_of_many_that_expect_the_same_version_one_wins(arena: Arena) -> None:
    first = await arena.owner.put(arena.kind, "a", Thing(0))
    writes = [
        arena.owner.put(arena.kind, "a", Thing(number), expect=first.version)
        for number in range(1, 9)
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 7
    (winner,) = [result for result in results if not isinstance(result, BaseException)]
    assert await arena.owner.get(arena.kind, "a") == winner


async def test_writes_of_one_key_take_effect_in_their_order(arena: Arena) -> None:
    await asyncio.gather(*(arena.owner.put(arena.kind, "a", Thing(n)) for n in range(50)))
    last = await arena.owner.get(arena.kind, "a")
    assert last is not None
    assert last.value == Thing(49)


async def test_a_cancelled_writer_leaves_the_store_consistent(arena: Arena) -> None:
    write = asyncio.create_task(arena.owner.put(arena.kind, "a", Thing(1)))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.wait([write])
    await arena.owner.put(arena.kind, "b", Thing(2))
    present = {k: r.value for k, r in (await arena.owner.list(arena.kind)).items()}
    follower = known(arena)
    await follower.until(lambda f: f.in_step == 1 and f.values == present)
    assert present["b"] == Thing(2)
    await follower.stop()


async def test_deleting_what_is_not_there_says_so(arena: Arena) -> None:
    assert not await arena.owner.delete(arena.kind, "a")


# -- reading --


async def test_readers_get_and_list_what_the_owner_put(arena: Arena) -> None:
    put = await arena.owner.put(arena.kind, "a", Thing(1))
    assert await arena.owner.get(arena.kind, "a") == put
    assert await arena.reader.get(arena.kind, "a") == put
    assert dict(await arena.reader.list(arena.kind)) == {"a": put}
    assert await arena.reader.get(arena.kind, "b") is None


async def test_a_list_is_of_its_moment(arena: Arena) -> None:
    await arena.owner.put(arena.kind, "a", Thing(1))
    listed = await arena.owner.list(arena.kind)
    await arena.owner.put(arena.kind, "b", Thing(2))
    assert set(listed) == {"a"}


async def test_any_text_is_a_key(arena: Arena) -> None:
    for number, key in enumerate(STRANGE_KEYS):
        await arena.owner.put(arena.kind, key, Thing(number))
    values = {key: Thing(number) for number, key in enumerate(STRANGE_KEYS)}
    assert await take_snapshot(arena.reader.watch(arena.kind)) == values
    for key in STRANGE_KEYS:
        assert await arena.owner.delete(arena.kind, key)
    assert not await arena.owner.list(arena.kind)


async def test_any_key_survives_a_restart(lasting: Arena) -> None:
    values = {key: Thing(number) for number, key in enumerate(STRANGE_KEYS)}
    for key, value in values.items():
        await lasting.owner.put(lasting.kind, key, value)
    await lasting.restart()
    assert {k: r.value for k, r in (await lasting.owner.list(lasting.kind)).items()} == values


# -- sizes --


async def test_ten_thousand_keys_reach_a_watcher(arena: Arena) -> None:
    count = 500 if arena.kind.persistent else 10_000
    for start in range(0, count, 500):
        keys = range(start, start + 500)
        await asyncio.gather(*(arena.owner.put(arena.kind, str(n), Thing(n)) for n in keys))
    snapshot = await take_snapshot(arena.reader.watch(arena.kind))
    assert snapshot == {str(n): Thing(n) for n in range(count)}


async def test_values_of_a_mebibyte_pass(arena: Arena) -> None:
    big = [Thing(n, data=bytes([n]) * (1 << 20)) for n in range(4)]
    follower = known(arena)
    for number, value in enumerate(big):
        await arena.owner.put(arena.kind, f"big-{number}", value)
        await arena.owner.put(arena.kind, f"small-{number}", Thing(number))
    await follower.until(lambda f: len(f.values) == 8)
    assert [follower.values[f"big-{n}"] for n in range(4)] == big
    await follower.stop()


# -- since --


async def test_a_watch_since_a_version_gets_exactly_what_came_after(historic: Arena) -> None:
    first = await historic.owner.put(historic.kind, "a", Thing(1))
    await historic.owner.put(historic.kind, "b", Thing(2))
    await historic.owner.put(OTHER, "other", Thing(0))
    await historic.owner.delete(historic.kind, "a")
    watch = historic.reader.watch(historic.kind, since=first.version)
    b, gone, mark = await take(watch, 3)
    assert isinstance(b, Put)
    assert b.resource.key == "b"
    assert isinstance(gone, Gone)
    assert gone.resource.value == Thing(1)
    assert isinstance(mark, InStep)
    assert mark.version == gone.resource.version


async def test_a_watch_since_now_gets_changes_alone(historic: Arena) -> None:
    last = await historic.owner.put(historic.kind, "a", Thing(1))
    watch = historic.reader.watch(historic.kind, since=last.version)
    (mark,) = await take(watch, 1)
    assert isinstance(mark, InStep)
    await historic.owner.put(historic.kind, "a", Thing(2))
    (event,) = await take(watch, 1)
    assert isinstance(event, Put)
    assert event.resource.value == Thing(2)


async def test_a_version_of_the_future_is_refused(historic: Arena) -> None:
    await historic.owner.put(historic.kind, "a", Thing(1))
    with pytest.raises(Expired):
        await take(historic.reader.watch(historic.kind, since=1 << 40), 1)


async def test_a_version_that_is_no_longer_kept_is_refused(historic: Arena) -> None:
    first = await historic.owner.put(historic.kind, "a", Thing(-1))
    for start in range(0, HISTORY, 500):
        keys = range(start, start + 500)
        await asyncio.gather(*(historic.owner.put(historic.kind, "a", Thing(n)) for n in keys))
    watch = historic.owner.watch(historic.kind, since=first.version)
    assert len(await take(watch, HISTORY)) == HISTORY
    await historic.owner.put(historic.kind, "a", Thing(-1))
    with pytest.raises(Expired):
        await take(historic.owner.watch(historic.kind, since=first.version), 1)


async def test_without_a_history_no_version_is_served(forgetful: Arena) -> None:
    last = await forgetful.owner.put(forgetful.kind, "a", Thing(1))
    with pytest.raises(Expired):
        await take(forgetful.reader.watch(forgetful.kind, since=last.version), 1)


# -- restarts --


async def test_what_cancelled_writers_left_is_the_same_after_a_restart(lasting: Arena) -> None:
    for number in range(20):
        write = asyncio.create_task(lasting.owner.put(lasting.kind, "a", Thing(number)))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait([write])
    last = await lasting.owner.put(lasting.kind, "b", Thing(0))
    before = dict(await lasting.owner.list(lasting.kind))
    assert before["b"] == last
    await lasting.restart()
    assert dict(await lasting.owner.list(lasting.kind)) == before


async def test_values_and_versions_go_on_after_a_restart(lasting: Arena) -> None:
    kept = await lasting.owner.put(lasting.kind, "kept", Thing(1))
    await lasting.owner.put(lasting.kind, "gone", Thing(2))
    await lasting.owner.delete(lasting.kind, "gone")
    await lasting.restart()
    assert dict(await lasting.owner.list(lasting.kind)) == {"kept": kept}
    fresh = await lasting.owner.put(lasting.kind, "gone", Thing(2))
    assert fresh.version > kept.version + 2


async def test_a_watch_goes_on_where_it_was_over_a_restart(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        arena = await open_sql(tmp_path, stack)
        first = await arena.owner.put(arena.kind, "a", Thing(1))
        await arena.owner.put(arena.kind, "a", Thing(2))
        await arena.restart()
        event, mark = await take(arena.reader.watch(arena.kind, since=first.version), 2)
        assert isinstance(event, Put)
        assert event.resource.value == Thing(2)
        assert isinstance(mark, InStep)
