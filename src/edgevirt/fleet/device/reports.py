"""What nodes report: checked, appended to telemetry, acknowledged when it is on disk.

Payloads are kept as they came, so that fields which this version doesn't know are not lost. A
report that comes twice is stored once (telemetry sees to it), so a node may repeat what it got no
answer for, and a replayed envelope changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from edgevirt.fleet.telemetry import Stream, Telemetry, Unavailable
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.replies import AfterCommit, Reply
from edgevirt.wire import logs as bundles
from edgevirt.wire.limits import LOG_BUNDLE_MAX
from edgevirt.wire.logs import AppHeader, BundleWriter, LogEntry, LogsError, Moment, NodeHeader
from edgevirt.wire.messages import flowlog, health, info, logs, metrics

MAX_UNPACKED: Final = 4 << 20
"""Bytes of a log bundle's lines; a node fills bundles of 50 kB with some 400 kB."""

_NANO: Final = 1e-9
_TOO_LONG: Final = bundles.MAX_LINE // 8
"""Characters of a legacy entry that surely fit into a line."""
_M = TypeVar("_M", bound=Message)


class _Stamp(Protocol):
    seconds: int
    nanos: int


class Reports:
    """One per process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def info(self, node: bytes, payload: bytes) -> Reply:
        message = _read(info.ZInfoMsg, payload)
        if message is None or not message.ztype:
            return replies.UNPROCESSABLE
        at = _seconds(message.atTimeStamp)
        return self._keep(Stream.INFO, node, info_item(message), at, payload)

    def metrics(self, node: bytes, payload: bytes) -> Reply:
        message = _read(metrics.ZMetricMsg, payload)
        if message is None:
            return replies.UNPROCESSABLE
        return self._keep(Stream.METRICS, node, "", _seconds(message.atTimeStamp), payload)

    def flows(self, node: bytes, payload: bytes) -> Reply:
        message = _read(flowlog.FlowMessage, payload)
        if message is None:
            return replies.UNPROCESSABLE
        ends = (_seconds(flow.endTime) for flow in message.flows)
        return self._keep(Stream.FLOWS, node, "", max(ends, default=0.0), payload)

    def health(self, node: bytes, payload: bytes) -> Reply:
        message = _read(health.ZHardwareHealth, payload)
        if message is None:
            return replies.UNPROCESSABLE
        return self._keep(Stream.HEALTH, node, "", _seconds(message.at_time_stamp), payload)

    def node_logs(self, node: bytes, payload: bytes) -> Reply:
        return self._bundle(bundles.unpack_node, node, "", payload)

    def app_logs(self, node: bytes, app: str, payload: bytes) -> Reply:
        """`app`: UUID, lower case."""
        return self._bundle(bundles.unpack_app, node, app, payload)

    def _bundle(
        self,
        unpack: Callable[[bytes, int, int], bundles.Bundle],
        node: bytes,
        app: str,
        payload: bytes,
    ) -> Reply:
        try:
            bundle = unpack(payload, LOG_BUNDLE_MAX, MAX_UNPACKED)
            newest = max((_seconds(e.timestamp) for e in bundles.entries(bundle)), default=0.0)
        except LogsError:
            return replies.UNPROCESSABLE
        return self._keep(Stream.LOGS, node, app, newest or bundle.created, payload)

    def old_node_logs(self, node: bytes, payload: bytes) -> Reply:
        message = _read(logs.LogBundle, payload)
        if message is None:
            return replies.UNPROCESSABLE
        header = NodeHeader(message.devID, message.image, message.eveVersion)
        return self._legacy(node, "", header, message)

    def old_app_logs(self, node: bytes, app: str, payload: bytes) -> Reply:
        message = _read(logs.AppInstanceLogBundle, payload)
        if message is None:
            return replies.UNPROCESSABLE
        return self._legacy(node, app, AppHeader(), message)

    def _legacy(
        self,
        node: bytes,
        app: str,
        header: NodeHeader | AppHeader,
        message: logs.LogBundle | logs.AppInstanceLogBundle,
    ) -> Reply:
        """Old bundles become new ones, so that there is one kind to read."""
        reply: Reply = replies.UNPROCESSABLE
        try:
            made = _rebundle(header, message.timestamp.seconds, map(_entry, message.log))
        except LogsError:
            return reply
        for bundle, at in made:
            reply = self._keep(Stream.LOGS, node, app, at, bundle)
        return reply

    def _keep(self, stream: Stream, node: bytes, item: str, at: float, payload: bytes) -> Reply:
        try:
            commit = self._telemetry.append(stream, node, item, at, payload)
        except Unavailable:
            return replies.UNAVAILABLE
        return AfterCommit(commit, replies.CREATED)


def _read(kind: type[_M], payload: bytes) -> _M | None:
    """None for what is no such message, or an empty one."""
    try:
        return kind.FromString(payload) if payload else None
    except DecodeError:
        return None


def info_item(message: info.ZInfoMsg) -> str:
    """What an info message is about: its type, and the object's id where there are several."""
    return f"{int(message.ztype)}/{_object(message)}"


def _object(message: info.ZInfoMsg) -> str:
    content = message.WhichOneof("InfoContent")
    if content == "ainfo":
        return message.ainfo.AppID
    if content == "niinfo":
        return message.niinfo.networkID
    if content == "vinfo":
        return f"{message.vinfo.uuid}#{message.vinfo.generation_count}"
    if content == "cinfo":
        return message.cinfo.uuid
    if content == "amdinfo":
        return f"{message.amdinfo.uuid}/{int(message.amdinfo.type)}"
    if content == "binfo":
        return ",".join(sorted(blob.sha256 for blob in message.binfo.blob))[:200]
    return ""


def _seconds(stamp: _Stamp | Any) -> float:
    return float(stamp.seconds) + stamp.nanos * _NANO


def _entry(entry: logs.LogEntry) -> LogEntry:
    """Less what would not fit: some old nodes log whole files."""
    return LogEntry(
        severity=entry.severity[:64],
        source=entry.source[:256],
        iid=entry.iid[:64],
        content=entry.content[:_TOO_LONG],
        msgid=entry.msgid,
        timestamp=Moment(entry.timestamp.seconds, entry.timestamp.nanos),
        filename=entry.filename[:256],
        function=entry.function[:256],
    )


def _rebundle(
    header: NodeHeader | AppHeader, created: int, entries: Iterable[LogEntry]
) -> list[tuple[bytes, float]]:
    """Bundles, each with the time of its newest entry."""
    made = []
    writer, newest, count = BundleWriter(header, created), 0.0, 0
    for entry in entries:
        if not writer.add(entry):
            made.append((writer.finish(), newest or created))
            writer, newest, count = BundleWriter(header, created), 0.0, 0
            writer.add(entry)
        newest, count = max(newest, _seconds(entry.timestamp)), count + 1
    if count:
        made.append((writer.finish(), newest or created))
    return made
