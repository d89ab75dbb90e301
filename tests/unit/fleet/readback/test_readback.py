"""What people read back: log lines in order, and what is used right now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.fleet.telemetry.lines import log_lines
from edgevirt.fleet.telemetry.usage import latest_metrics
from edgevirt.runtime import VirtualClock
from edgevirt.wire.logs import AppHeader, BundleWriter, LogEntry, Moment, NodeHeader
from edgevirt.wire.messages import metrics

NODE, APP = b"n" * 16, "11111111-2222-3333-4444-555555555555"
NOW = 1_700_000_000.0


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    opened = Telemetry(tmp_path / "t.db", VirtualClock(NOW + 10_000))
    opened.start()
    yield opened
    await opened.close()


async def add(telemetry: Telemetry, *lines: tuple[float, str], app: str = APP) -> None:
    """A bundle of lines with their times; 0 stands for none."""
    writer = BundleWriter(AppHeader("shop") if app else NodeHeader(dev_id="x"), int(NOW))
    for at, content in lines:
        stamp = Moment(int(at), int(at % 1 * 1e9)) if at else Moment()
        assert writer.add(LogEntry(content=content, timestamp=stamp))
    newest = max(at for at, _ in lines)
    await telemetry.append(Stream.LOGS, NODE, app, newest or NOW, writer.finish())


async def read(telemetry: Telemetry, **how: float) -> list[str]:
    lines = log_lines(telemetry, NODE, APP, **how)  # type: ignore[arg-type]
    return [line.entry.content async for line in lines]


async def test_lines_of_all_bundles_come_in_order(telemetry: Telemetry) -> None:
    await add(telemetry, (NOW + 3, "c"), (NOW + 4, "d"))
    await add(telemetry, (NOW + 1, "a"), (NOW + 2, "b"))
    assert await read(telemetry) == ["a", "b", "c", "d"]


async def test_bundles_that_overlap_are_merged(telemetry: Telemetry) -> None:
    await add(telemetry, (NOW + 1, "a"), (NOW + 4, "d"))
    await add(telemetry, (NOW + 2, "b"), (NOW + 3, "c"))
    assert await read(telemetry) == ["a", "b", "c", "d"]


async def test_the_tail_is_the_newest_lines(telemetry: Telemetry) -> None:
    for number in range(40):
        await add(telemetry, *((NOW + number + i / 10, f"{number}.{i}") for i in range(5)))
    assert await read(telemetry, tail=7) == ["38.3", "38.4", "39.0", "39.1", "39.2", "39.3", "39.4"]
    assert await read(telemetry, tail=0) == []
    assert len(await read(telemetry)) == 200


async def test_since_leaves_out_what_is_older(telemetry: Telemetry) -> None:
    await add(telemetry, (NOW + 1, "a"), (NOW + 2, "b"))
    await add(telemetry, (NOW + 3, "c"))
    assert await read(telemetry, since=NOW + 2) == ["b", "c"]


async def test_a_line_without_a_time_has_its_bundle_s(telemetry: Telemetry) -> None:
    await add(telemetry, (0, "timeless"), (NOW + 5, "stamped"))
    assert await read(telemetry) == ["timeless", "stamped"]


async def test_a_node_s_lines_are_not_its_apps_lines(telemetry: Telemetry) -> None:
    await add(telemetry, (NOW, "of the app"))
    await add(telemetry, (NOW, "of the node"), app="")
    assert await read(telemetry) == ["of the app"]
    lines = [line.entry.content async for line in log_lines(telemetry, NODE)]
    assert lines == ["of the node"]


async def test_following_goes_on_with_what_comes(telemetry: Telemetry) -> None:
    await add(telemetry, (NOW + 1, "before"))
    following = log_lines(telemetry, NODE, APP, follow=True)
    assert (await anext(following)).entry.content == "before"
    coming = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0.01)
    await add(telemetry, (NOW, "of the node"), app="")
    await add(telemetry, (NOW + 2, "after"), (NOW + 3, "later"))
    assert (await coming).entry.content == "after"
    assert (await anext(following)).entry.content == "later"
    await following.aclose()


async def measure(telemetry: Telemetry, at: float, cpu_ns: int) -> None:
    message = metrics.ZMetricMsg()
    message.dm.cpuMetric.total_ns = cpu_ns
    message.dm.memory.usedMem, message.dm.deviceMemory.memoryMB = 100, 400
    message.dm.disk.add(mountPath="/", total=10, used=5)
    message.dm.disk.add(mountPath="/persist", total=90, used=30)
    message.dm.disk.add(disk="sda", readBytes=3)
    message.dm.network.add(iName="eth0", rxBytes=10, txBytes=1)
    message.dm.network.add(iName="eth1", rxBytes=5, txBytes=2)
    app = message.am.add(AppID=APP)
    app.cpu.total_ns = cpu_ns // 2
    app.appMemory.usedMB, app.appMemory.allocatedMB = 8, 64
    await telemetry.append(Stream.METRICS, NODE, "", at, message.SerializeToString())


async def test_there_are_no_metrics_before_the_first(telemetry: Telemetry) -> None:
    assert await latest_metrics(telemetry, NODE) is None


async def test_the_cpu_takes_two_samples(telemetry: Telemetry) -> None:
    await measure(telemetry, NOW, 1_000_000_000)
    first = await latest_metrics(telemetry, NODE)
    assert first is not None
    assert first.cpu_millicores is None
    await measure(telemetry, NOW + 10, 6_000_000_000)
    second = await latest_metrics(telemetry, NODE)
    assert second is not None
    assert second.cpu_millicores == pytest.approx(500)


async def test_a_counter_that_began_anew_is_no_negative_use(telemetry: Telemetry) -> None:
    await measure(telemetry, NOW, 6_000_000_000)
    await measure(telemetry, NOW + 10, 1_000_000_000)
    usage = await latest_metrics(telemetry, NODE)
    assert usage is not None
    assert usage.cpu_millicores is None


async def test_sizes_are_bytes(telemetry: Telemetry) -> None:
    await measure(telemetry, NOW, 0)
    usage = await latest_metrics(telemetry, NODE)
    assert usage is not None
    assert (usage.memory_bytes, usage.memory_limit_bytes) == (100 << 20, 400 << 20)
    assert (usage.disk_bytes, usage.disk_limit_bytes) == (30 << 20, 90 << 20)
    assert (usage.received_bytes, usage.sent_bytes) == (15, 3)


async def test_an_app_s_use_is_its_own(telemetry: Telemetry) -> None:
    await measure(telemetry, NOW, 0)
    await measure(telemetry, NOW + 10, 2_000_000_000)
    usage = await latest_metrics(telemetry, NODE, APP)
    assert usage is not None
    assert usage.cpu_millicores == pytest.approx(100)
    assert (usage.memory_bytes, usage.memory_limit_bytes) == (8 << 20, 64 << 20)
    assert usage.disk_bytes is None
    assert await latest_metrics(telemetry, NODE, "another app") is None


async def test_an_app_that_was_not_measured_yet_does_not_use_nothing(telemetry: Telemetry) -> None:
    message = metrics.ZMetricMsg()
    message.am.add(AppID=APP)
    await telemetry.append(Stream.METRICS, NODE, "", NOW, message.SerializeToString())
    await measure(telemetry, NOW + 10, 2_000_000_000)
    usage = await latest_metrics(telemetry, NODE, APP)
    assert usage is not None
    assert usage.cpu_millicores is None
    await telemetry.append(Stream.METRICS, NODE, "", NOW + 20, message.SerializeToString())
    usage = await latest_metrics(telemetry, NODE, APP)
    assert usage is not None
    assert (usage.memory_bytes, usage.received_bytes, usage.sent_bytes) == (None, None, None)
