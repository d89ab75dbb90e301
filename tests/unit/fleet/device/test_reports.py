"""Reports: what they are about, and how old bundles become new ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgevirt.fleet.device.reports import Reports, info_item
from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.fleet.telemetry.lines import log_lines
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.replies import AfterCommit, Reply
from edgevirt.runtime import VirtualClock
from edgevirt.wire import limits
from edgevirt.wire.messages import flowlog, info, logs

NODE = b"n" * 16
APP = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    opened = Telemetry(tmp_path / "t.db", VirtualClock())
    opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def reports(telemetry: Telemetry) -> Reports:
    return Reports(telemetry)


async def accept(reply: Reply) -> None:
    assert isinstance(reply, AfterCommit)
    assert reply.response is replies.CREATED
    await asyncio.shield(reply.commit)


@pytest.mark.parametrize(
    ("message", "item"),
    [
        (info.ZInfoMsg(ztype=info.ZiDevice, dinfo=info.ZInfoDevice()), "1/"),
        (info.ZInfoMsg(ztype=info.ZiApp, ainfo=info.ZInfoApp(AppID="a")), "3/a"),
        (
            info.ZInfoMsg(
                ztype=info.ZiVolume, vinfo=info.ZInfoVolume(uuid="v", generation_count=2)
            ),
            "7/v#2",
        ),
        (info.ZInfoMsg(ztype=info.ZiHardware, hwinfo=info.ZInfoHardware()), "11/"),
        (info.ZInfoMsg(ztype=77), "77/"),  # type: ignore[arg-type]
    ],
)
def test_news_of_different_things_don_t_overtake_each_other(
    message: info.ZInfoMsg, item: str
) -> None:
    assert info_item(message) == item


def test_many_blobs_at_once_have_one_bounded_name() -> None:
    message = info.ZInfoMsg(ztype=info.ZiBlobList)
    for number in range(100):
        message.binfo.blob.add(sha256=f"{number:064}")
    assert len(info_item(message)) < 250


async def test_payloads_are_kept_as_they_came(reports: Reports, telemetry: Telemetry) -> None:
    message = info.ZInfoMsg(ztype=info.ZiDevice)
    payload = message.SerializeToString() + b"\xf2\x7f\x03new"
    await accept(reports.info(NODE, payload))
    (record,) = await telemetry.backwards(Stream.INFO, NODE, "1/")
    assert record.payload == payload


async def test_flows_have_the_time_of_the_last_one(reports: Reports, telemetry: Telemetry) -> None:
    message = flowlog.FlowMessage()
    for seconds in (5, 9, 7):
        message.flows.add().endTime.seconds = seconds
    await accept(reports.flows(NODE, message.SerializeToString()))
    (record,) = await telemetry.backwards(Stream.FLOWS, NODE)
    assert record.at == 9.0


async def test_a_large_old_bundle_becomes_several_that_lose_nothing(
    reports: Reports, telemetry: Telemetry
) -> None:
    message = logs.LogBundle(devID="x", image="IMGA", eveVersion="4")
    for number in range(3_000):
        noise = hashlib.sha512(b"%d" % number).hexdigest()
        entry = message.log.add(content=f"{number} {noise}", source="zedagent")
        entry.timestamp.seconds = 1_000 + number
    await accept(reports.old_node_logs(NODE, message.SerializeToString()))
    records = await telemetry.backwards(Stream.LOGS, NODE)
    assert len(records) > 1
    assert all(len(record.payload) <= limits.LOG_BUNDLE_MAX for record in records)
    lines = [line async for line in log_lines(telemetry, NODE)]
    assert [line.entry.content.split()[0] for line in lines] == [str(n) for n in range(3_000)]


async def test_an_old_entry_that_is_too_long_is_cut(reports: Reports, telemetry: Telemetry) -> None:
    message = logs.AppInstanceLogBundle()
    message.log.add(content="ü" * 200_000)
    await accept(reports.old_app_logs(NODE, APP, message.SerializeToString()))
    (line,) = [line async for line in log_lines(telemetry, NODE, APP)]
    assert line.entry.content.startswith("üüü")


async def test_an_old_bundle_without_entries_is_refused(reports: Reports) -> None:
    assert reports.old_node_logs(NODE, b"") is replies.UNPROCESSABLE


async def test_when_too_much_waits_nodes_are_told_to_come_again(
    reports: Reports, telemetry: Telemetry
) -> None:
    message = info.ZInfoMsg(ztype=info.ZiDevice)
    message.dinfo.HostName = "x" * 1_000_000
    payload = message.SerializeToString()
    answers = [reports.info(NODE, payload) for _ in range(80)]
    assert answers[-1] is replies.UNAVAILABLE
    assert isinstance(answers[0], AfterCommit)
