"""Telemetry: nothing that was acknowledged is lost, nothing grows without bound."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edgevirt.fleet.telemetry import DEFAULT_QUOTAS, Quota, Record, Stream, Telemetry, Unavailable
from edgevirt.runtime import VirtualClock

NODE, OTHER = b"n" * 16, b"o" * 16


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def telemetry(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Telemetry]:
    opened = Telemetry(tmp_path / "telemetry.db", clock)
    opened.start()
    yield opened
    await opened.close()


def payloads(records: list[Record]) -> list[bytes]:
    return [record.payload for record in records]


async def test_what_was_appended_can_be_read(telemetry: Telemetry, clock: VirtualClock) -> None:
    await telemetry.append(Stream.INFO, NODE, "app", 12.5, b"hello")
    (record,) = await telemetry.backwards(Stream.INFO, NODE, "app")
    assert record == Record(1, NODE, "app", 12.5, clock.now(), b"hello")
    assert await telemetry.backwards(Stream.INFO, NODE, "other") == []
    assert await telemetry.backwards(Stream.INFO, OTHER, "app") == []
    assert await telemetry.backwards(Stream.METRICS, NODE, "app") == []


async def test_records_come_newest_first_page_by_page(telemetry: Telemetry) -> None:
    for at in (3, 1, 2, 2):
        await telemetry.append(
            Stream.LOGS, NODE, "", at, b"%d at %d" % (telemetry.last_id(Stream.LOGS), at)
        )
    first = await telemetry.backwards(Stream.LOGS, NODE, limit=2)
    assert payloads(first) == [b"0 at 3", b"3 at 2"]
    last = first[-1]
    rest = await telemetry.backwards(Stream.LOGS, NODE, before=(last.at, last.id))
    assert payloads(rest) == [b"2 at 2", b"1 at 1"]
    assert payloads(await telemetry.backwards(Stream.LOGS, NODE, since=2.5)) == [b"0 at 3"]


async def test_a_repeated_report_is_kept_once(telemetry: Telemetry) -> None:
    for _ in range(3):
        await telemetry.append(Stream.LOGS, NODE, "", 1.0, b"same")
    await asyncio.gather(
        telemetry.append(Stream.LOGS, NODE, "", 1.0, b"same"),
        telemetry.append(Stream.LOGS, NODE, "", 1.0, b"other"),
        telemetry.append(Stream.LOGS, OTHER, "", 1.0, b"same"),
    )
    assert len(await telemetry.backwards(Stream.LOGS, NODE)) == 2
    assert telemetry.size(Stream.LOGS) == 4 + 5 + 4 + 3 * 160


async def test_a_node_from_the_future_does_not_stay_the_newest(
    telemetry: Telemetry, clock: VirtualClock
) -> None:
    await telemetry.append(Stream.METRICS, NODE, "", clock.now() + 1e9, b"far ahead")
    await clock.advance(1_000)
    await telemetry.append(Stream.METRICS, NODE, "", clock.now(), b"now")
    newest = await telemetry.latest(Stream.METRICS, NODE)
    assert newest is not None
    assert newest.payload == b"now"


async def test_news_leave_out_what_was_overtaken(telemetry: Telemetry) -> None:
    for node, item, at, payload in (
        (NODE, "x", 5.0, b"newest of x, then"),
        (NODE, "x", 3.0, b"late"),
        (NODE, "y", 1.0, b"another thing"),
        (OTHER, "x", 1.0, b"another node's"),
        (NODE, "x", 5.0, b"as new as the first"),
    ):
        await telemetry.append(Stream.INFO, node, item, at, payload)
    news = telemetry.news(Stream.INFO, after=0)
    first = await anext(news)
    wanted = [b"another thing", b"another node's", b"as new as the first"]
    assert payloads(first.records) == wanted
    assert first.upto == 5
    coming = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0.01)
    assert not coming.done()
    await telemetry.append(Stream.INFO, NODE, "x", 4.0, b"late again")
    assert await coming == ([], 6)
    await telemetry.append(Stream.INFO, NODE, "x", 6.0, b"newer")
    assert payloads((await anext(news)).records) == [b"newer"]
    await news.aclose()


async def test_a_follower_hears_of_each_commit(telemetry: Telemetry) -> None:
    await telemetry.append(Stream.LOGS, NODE, "a", 1.0, b"before")
    follower = telemetry.follow(Stream.LOGS, after=1, node=NODE, item="a")
    heard = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0.01)
    assert not heard.done()
    await telemetry.append(Stream.LOGS, OTHER, "a", 2.0, b"of another node")
    await telemetry.append(Stream.LOGS, NODE, "b", 3.0, b"of another app")
    await telemetry.append(Stream.LOGS, NODE, "a", 0.5, b"late but new")
    assert (await heard).payload == b"late but new"
    await follower.aclose()


async def test_a_follower_of_all_gets_everything_in_order(telemetry: Telemetry) -> None:
    wanted = [b"%d" % number for number in range(200)]
    for number, payload in enumerate(wanted):
        telemetry.append(Stream.INFO, b"%016d" % (number % 7), "", number, payload)
    got = []
    async for record in telemetry.follow(Stream.INFO, after=0):
        got.append(record.payload)
        if len(got) == len(wanted):
            break
    assert got == wanted


async def test_marks_and_last_seen_survive(tmp_path: Path, clock: VirtualClock) -> None:
    for expected in (0, 7):
        telemetry = Telemetry(tmp_path / "t.db", clock)
        telemetry.start()
        assert await telemetry.read_mark("status") == expected
        telemetry.set_mark("status", 7)
        await telemetry.note_seen([(NODE, 1.0), (OTHER, 2.0)])
        await telemetry.note_seen([(NODE, 3.0)])
        assert sorted(await telemetry.load_seen()) == [(NODE, 3.0), (OTHER, 2.0)]
        await telemetry.close()


async def test_closing_commits_what_was_appended(tmp_path: Path, clock: VirtualClock) -> None:
    telemetry = Telemetry(tmp_path / "t.db", clock)
    telemetry.start()
    appended = [telemetry.append(Stream.INFO, NODE, "", 1.0, b"%d" % n) for n in range(10)]
    await telemetry.close()
    assert all(future.done() for future in appended)
    again = Telemetry(tmp_path / "t.db", clock)
    again.start()
    assert len(await again.backwards(Stream.INFO, NODE)) == 10
    assert again.last_id(Stream.INFO) == 10
    await again.close()


async def test_the_oldest_goes_when_a_stream_outgrows_its_quota(
    tmp_path: Path, clock: VirtualClock
) -> None:
    quotas = {**DEFAULT_QUOTAS, Stream.LOGS: Quota(100_000, 1e9)}
    telemetry = Telemetry(tmp_path / "t.db", clock, quotas)
    telemetry.start()
    for number in range(300):
        await telemetry.append(Stream.LOGS, NODE, "", number, b"%04d" % number * 250)
    kept = await telemetry.backwards(Stream.LOGS, NODE, limit=1_000)
    assert telemetry.size(Stream.LOGS) == sum(len(record.payload) + 160 for record in kept)
    assert telemetry.size(Stream.LOGS) <= 100_000
    assert [record.id for record in kept] == list(range(300, 300 - len(kept), -1))
    assert len(kept) > 80
    await telemetry.close()


async def test_what_is_too_old_goes(tmp_path: Path, clock: VirtualClock) -> None:
    quotas = {**DEFAULT_QUOTAS, Stream.INFO: Quota(1 << 30, 3_600)}
    telemetry = Telemetry(tmp_path / "t.db", clock, quotas)
    telemetry.start()
    await telemetry.append(Stream.INFO, NODE, "", 1.0, b"old")
    await clock.advance(3_000)
    await telemetry.append(Stream.INFO, NODE, "", 2.0, b"younger")
    await clock.advance(3_000)
    await telemetry.append(Stream.INFO, NODE, "", 3.0, b"young")
    assert payloads(await telemetry.backwards(Stream.INFO, NODE)) == [b"young", b"younger"]
    await telemetry.close()


@contextlib.contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`: what a full disk looks like to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def append_until_refused(telemetry: Telemetry) -> int:
    for number in range(1_000):
        try:
            await telemetry.append(Stream.INFO, NODE, "", 2.0, b"%04d" % number * 1_000)
        except Unavailable:
            return number
    raise AssertionError("the disk never was full")


async def test_a_full_disk_refuses_and_loses_nothing_acknowledged(
    tmp_path: Path, clock: VirtualClock
) -> None:
    telemetry = Telemetry(tmp_path / "t.db", clock)
    telemetry.start()
    await telemetry.append(Stream.INFO, NODE, "", 1.0, b"before")
    with files_limited_to(300_000):
        acknowledged = await append_until_refused(telemetry)
        with pytest.raises(Unavailable, match="cannot store"):
            await telemetry.append(Stream.INFO, NODE, "", 2.5, b"still full" * 1_000)
    await telemetry.append(Stream.INFO, NODE, "", 3.0, b"room again")
    records = await telemetry.backwards(Stream.INFO, NODE, limit=2_000)
    assert acknowledged >= 5
    assert len(records) == acknowledged + 2
    assert records[0].payload == b"room again"
    assert telemetry.size(Stream.INFO) == sum(len(r.payload) + 160 for r in records)
    await telemetry.close()


async def test_what_waits_for_a_stuck_disk_is_bounded(telemetry: Telemetry) -> None:
    megabyte = bytes(1 << 20)
    for number in range(65):
        telemetry.append(Stream.LOGS, NODE, "", number, megabyte)
    with pytest.raises(Unavailable, match="too much"):
        telemetry.append(Stream.LOGS, NODE, "", 66, megabyte)
    await asyncio.sleep(0)
    await telemetry.append(Stream.LOGS, NODE, "", 1_000.0, b"small")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "t.db").write_bytes(b"not a database" * 1_000)
    with pytest.raises(Unavailable, match="cannot open"):
        Telemetry(tmp_path / "t.db", clock)


_CHILD = """
import asyncio, sys
from pathlib import Path
from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.runtime import RealClock

async def one(telemetry, number):
    while True:
        await telemetry.append(Stream.LOGS, b"n" * 16, "", number, b"%d" % number)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        number += 50

async def main():
    telemetry = Telemetry(Path(sys.argv[1]), RealClock())
    telemetry.start()
    await asyncio.gather(*(one(telemetry, number) for number in range(50)))

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, clock: VirtualClock) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path / "t.db")],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": "src"},
        ) as child:
            assert child.stdout is not None
            said = [child.stdout.readline() for _ in range(300)]
            time.sleep(0.05)
            child.kill()
            said.extend(child.stdout.readlines())
        acknowledged = {line.strip() for line in said if line.endswith(b"\n")}
        telemetry = Telemetry(tmp_path / "t.db", clock)
        telemetry.start()
        kept = payloads(await telemetry.backwards(Stream.LOGS, NODE, limit=1_000_000))
        await telemetry.close()
        assert len(acknowledged) >= 300
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
