"""What people read of telemetry, in the operators' API: `log` and `metrics` of nodes and apps, and
what hardware a node has.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.shapes.shapes import encode
from edgevirt.fleet.api.table import Subresource
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.names import check_metadata
from edgevirt.fleet.objects.base.object import ApiObject, object_key
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import validate
from edgevirt.fleet.readback.hardware_proposal import propose
from edgevirt.fleet.telemetry.archive import Telemetry
from edgevirt.fleet.telemetry.lines import MAX_LINES, LogLine, log_lines
from edgevirt.fleet.telemetry.records import Stream
from edgevirt.fleet.telemetry.usage import latest_metrics
from edgevirt.runtime import Clock, Store
from edgevirt.wire.messages import info

_TRUE: Final = ("true", "1")
_HARDWARE: Final = f"{int(info.ZiHardware)}/"
"""Item of info messages."""


class Readback:
    """Makes the subresources."""

    def __init__(self, store: Store, telemetry: Telemetry, clock: Clock) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock

    def subresources(self) -> tuple[Subresource, ...]:
        return (
            Subresource("EdgeNode", "log", self.log),
            Subresource("AppInstance", "log", self.log),
            Subresource("EdgeNode", "metrics", self.metrics),
            Subresource("AppInstance", "metrics", self.metrics),
            Subresource("EdgeNode", "hardware", self.hardware),
        )

    async def log(self, request: Request, about: ApiObject) -> Response:
        """Query as of a pod's log: follow, tailLines, sinceSeconds, timestamps."""
        query = request.query_params
        node, app = await self._node_of(about)
        since = _number(query, "sinceSeconds", 0)
        lines = log_lines(
            self._telemetry,
            node,
            app,
            tail=min(_number(query, "tailLines", MAX_LINES), MAX_LINES),
            since=self._clock.now() - since if since else 0.0,
            follow=query.get("follow", "").lower() in _TRUE,
        )
        stamped = query.get("timestamps", "").lower() in _TRUE

        async def text() -> AsyncIterator[bytes]:
            async for line in lines:
                yield _text(line, of_app=bool(app), stamped=stamped)

        return StreamingResponse(text(), media_type="text/plain")

    async def metrics(self, _request: Request, about: ApiObject) -> Response:
        node, app = await self._node_of(about)
        usage = await latest_metrics(self._telemetry, node, app)
        if usage is None:
            name = about.metadata.name
            raise errors.ApiError(404, "NotFound", f'no metrics of "{name}" have come yet')
        body: dict[str, Any] = msgspec.to_builtins(usage)
        body["timestamp"] = _stamp(usage.timestamp)
        return Response(msgspec.json.encode(body), media_type="application/json")

    async def hardware(self, request: Request, about: ApiObject) -> Response:
        """A HardwareModel as a draft. Query: its name, `model`."""
        assert isinstance(about, EdgeNode)
        node, _ = await self._node_of(about)
        record = await self._telemetry.latest(Stream.INFO, node, _HARDWARE)
        if record is None:
            why = f'"{about.metadata.name}" has not told of its hardware yet'
            raise errors.ApiError(404, "NotFound", why)
        told = info.ZInfoMsg.FromString(record.payload).hwinfo.inventory
        name = request.query_params.get("model", "") or about.metadata.name
        draft = propose(name, about, told)
        for problem in (*check_metadata(draft.metadata, namespaced=True), *validate(draft)):
            raise errors.ApiError(422, "Invalid", f"{problem.field}: {problem.message}")
        kind = kinds.BY_NAME["HardwareModel"]
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": name},
            "spec": encode(draft)["spec"],
        }
        return Response(msgspec.json.encode(body), media_type="application/json")

    async def _node_of(self, about: ApiObject) -> tuple[bytes, str]:
        """The node's UUID, and the app's where the object is one."""
        meta, name, app = about.metadata, about.metadata.name, ""
        if isinstance(about, AppInstance):
            name, app = about.spec.edge_node, meta.uid
        found = await self._store.get(kinds.EDGE_NODE, object_key(meta.namespace, name))
        node_id = found.value.status.node_id if found is not None else ""
        if not node_id:
            raise errors.ApiError(404, "NotFound", f'no machine is EdgeNode "{name}" yet')
        return uuid.UUID(node_id).bytes, app


def _text(line: LogLine, *, of_app: bool, stamped: bool) -> bytes:
    """An app's line is what it printed; a node's tells who said it."""
    entry = line.entry
    content = entry.content.rstrip("\n").replace("\n", "\\n")
    if of_app:
        text = f"{_stamp(line.at)} {content}" if stamped else content
    else:
        text = f"{_stamp(line.at)} {entry.severity or 'info'} {entry.source}: {content}"
    return text.encode("utf-8", "replace") + b"\n"


def _stamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdigit() or len(text) > 9:
        raise errors.bad_request(f"{name} must be a number, not {text[:20]!r}")
    return int(text)
