"""What a node or an app uses right now, from the newest two of its metrics messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from edgevirt.fleet.telemetry.archive import Telemetry
from edgevirt.fleet.telemetry.records import Stream
from edgevirt.wire.convert.storage import read_storage
from edgevirt.wire.messages import metrics

MEBI: Final = 1 << 20
_NANO: Final = 1e-9


class Usage(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """As people and tools read it. None: not told (yet); CPU also while there is one sample."""

    timestamp: float = 0.0
    cpu_millicores: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    disk_bytes: int | None = None
    disk_limit_bytes: int | None = None
    reserved_bytes: int | None = None
    """Of a node's disk: its own part, its images, what volumes are promised, snapshots."""
    content_bytes: int | None = None
    volumes_bytes: int | None = None
    snapshots_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


async def latest_metrics(telemetry: Telemetry, node: bytes, app: str = "") -> Usage | None:
    """Of a node, or of one of its apps (UUID); None when it has not told any."""
    records = await telemetry.backwards(Stream.METRICS, node, limit=2)
    messages = []
    for record in records:
        try:
            messages.append((record.at, metrics.ZMetricMsg.FromString(record.payload)))
        except DecodeError:
            continue
    if not messages:
        return None
    at, newest = messages[0]
    before = messages[1] if len(messages) > 1 else None
    if app:
        return _of_app(app, at, newest, before)
    cpu = _rate(at, newest.dm.cpuMetric, before, before[1].dm.cpuMetric if before else None)
    return _of_node(at, newest.dm, cpu)


_Sample = tuple[float, metrics.ZMetricMsg]


def _of_node(at: float, dm: metrics.deviceMetric, cpu: float | None) -> Usage:
    received, sent = _traffic(dm.network)
    places = [disk for disk in dm.disk if disk.mountPath]
    persist = [disk for disk in places if disk.mountPath.startswith("/persist")] or places
    disk = max(persist, key=lambda d: d.total, default=None)
    storage = read_storage(dm)
    limit = dm.deviceMemory.memoryMB or dm.memory.usedMem + dm.memory.availMem
    return Usage(
        timestamp=at,
        cpu_millicores=cpu,
        memory_bytes=dm.memory.usedMem * MEBI,
        memory_limit_bytes=limit * MEBI,
        disk_bytes=disk.used * MEBI if disk is not None else None,
        disk_limit_bytes=disk.total * MEBI if disk is not None else None,
        reserved_bytes=storage.get("reserved"),
        content_bytes=storage.get("content"),
        volumes_bytes=storage.get("volumes"),
        snapshots_bytes=storage.get("snapshots"),
        received_bytes=received,
        sent_bytes=sent,
    )


def _of_app(
    app: str, at: float, message: metrics.ZMetricMsg, before: _Sample | None
) -> Usage | None:
    metric = _find(app, message)
    if metric is None:
        return None
    earlier = _find(app, before[1]) if before else None
    used = metric.appMemory.usedMB or metric.memory.usedMem
    received, sent = _traffic(metric.network) if metric.network else (None, None)
    return Usage(
        timestamp=at,
        cpu_millicores=_rate(at, _cpu(metric), before, _cpu(earlier)),
        memory_bytes=used * MEBI if _tells_memory(metric) else None,
        memory_limit_bytes=(metric.appMemory.allocatedMB * MEBI) or None,
        disk_bytes=sum(disk.used for disk in metric.disk) * MEBI if metric.disk else None,
        disk_limit_bytes=(
            sum(disk.provisioned for disk in metric.disk) * MEBI if metric.disk else None
        ),
        received_bytes=received,
        sent_bytes=sent,
    )


def _tells_memory(metric: metrics.appMetric) -> bool:
    """An app that has just started may be named before it was measured."""
    return metric.HasField("appMemory") or metric.HasField("memory")


def _find(app: str, message: metrics.ZMetricMsg) -> metrics.appMetric | None:
    return next((metric for metric in message.am if metric.AppID == app), None)


def _cpu(metric: metrics.appMetric | None) -> metrics.appCpuMetric | None:
    return metric.cpu if metric is not None and metric.HasField("cpu") else None


def _rate(
    at: float,
    now: metrics.appCpuMetric | None,
    before: _Sample | None,
    earlier: metrics.appCpuMetric | None,
) -> float | None:
    """Thousandths of a core. Counters begin anew at each start of what they count."""
    if before is None or now is None or earlier is None or now.total_ns < earlier.total_ns:
        return None
    seconds = at - before[0]
    return (now.total_ns - earlier.total_ns) * _NANO / seconds * 1_000 if seconds > 0 else None


def _traffic(counters: Iterable[metrics.networkMetric]) -> tuple[int, int]:
    listed = list(counters)
    return sum(c.rxBytes for c in listed), sum(c.txBytes for c in listed)
