"""What a node proved the last time, whole: `attestation` of an EdgeNode in the operators' API."""

from __future__ import annotations

import base64
import uuid
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.table import Subresource
from edgevirt.fleet.attestation import event_words, eventlog
from edgevirt.fleet.attestation.shown import log_worth
from edgevirt.fleet.nodes.devices import EVIDENCE, Evidence
from edgevirt.fleet.objects.base.object import ApiObject, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.runtime import Store
from edgevirt.wire.event_log import EventLogError

MAX_EVENTS: Final = 1_000
"""Events that are told; more are counted only."""


class Audit:
    """Makes the subresource. What it shows is signed by the node; the words for events are not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def subresources(self) -> tuple[Subresource, ...]:
        return (Subresource("EdgeNode", "attestation", self.attestation),)

    async def attestation(self, _request: Request, about: ApiObject) -> Response:
        assert isinstance(about, EdgeNode)
        node_id = about.status.node_id
        held = await self._store.get(EVIDENCE, str(uuid.UUID(node_id))) if node_id else None
        if held is None:
            name = about.metadata.name
            raise errors.ApiError(404, "NotFound", f'EdgeNode "{name}" has proved nothing yet')
        return Response(msgspec.json.encode(_body(held.value)), media_type="application/json")


def _body(evidence: Evidence) -> dict[str, Any]:
    values = dict(evidence.values)
    events, more = _events(evidence)
    return {
        "timestamp": timestamp(evidence.at),
        "firmware": evidence.firmware,
        "registers": {str(number): value.hex() for number, value in sorted(values.items())},
        "quote": base64.b64encode(evidence.quote).decode(),
        "signature": base64.b64encode(evidence.signature).decode(),
        "log": log_worth(evidence.log, values),
        "events": events,
        "moreEvents": more,
        "eventLog": base64.b64encode(evidence.log).decode(),
    }


def _events(evidence: Evidence) -> tuple[list[dict[str, Any]], int]:
    """The first of them, and how many more there are."""
    if not evidence.log:
        return [], 0
    try:
        events = eventlog.unpack(evidence.log)
    except EventLogError:
        return [], 0
    told = [
        {
            "register": event.register,
            "what": event_words.describe(event),
            "digest": event.digest.hex(),
        }
        for event in events[:MAX_EVENTS]
    ]
    return told, max(0, len(events) - MAX_EVENTS)
