"""The forms of an answer: whole objects, tables for people, or metadata alone; JSON or YAML."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml
from starlette.requests import Request
from starlette.responses import Response

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies.drafts import Held
from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.objects.kinds import ApiKind

META = "meta.k8s.io/v1"


class Form(enum.Enum):
    OBJECT = "Object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    DISCOVERY = "APIGroupDiscoveryList"


@dataclass(frozen=True)
class Accepted:
    """What the client asked for. `version`: of a DISCOVERY."""

    form: Form = Form.OBJECT
    yaml: bool = False
    version: str = ""


_FORMS = {
    ("Table", "meta.k8s.io", "v1"): Form.TABLE,
    ("PartialObjectMetadata", "meta.k8s.io", "v1"): Form.METADATA,
    ("PartialObjectMetadataList", "meta.k8s.io", "v1"): Form.METADATA,
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"): Form.DISCOVERY,
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1"): Form.DISCOVERY,
}


def negotiate(accept: str) -> Accepted:
    """The first of the header's forms that is served. Raises ApiError (406)."""
    for part in (accept or "*/*").split(","):
        media, *raw = (piece.strip() for piece in part.split(";"))
        parameters = dict(pair.partition("=")[::2] for pair in raw)
        if parameters.get("q") in ("0", "0.0"):
            continue
        as_yaml = media in ("application/yaml", "application/x-yaml", "text/yaml")
        if not as_yaml and media not in ("application/json", "application/*", "*/*"):
            continue
        if "as" not in parameters:
            return Accepted(yaml=as_yaml)
        wanted = (parameters["as"], parameters.get("g", ""), parameters.get("v", ""))
        if wanted in _FORMS:
            return Accepted(_FORMS[wanted], as_yaml, wanted[2])
    raise errors.not_acceptable()


def accepted_by(request: Request) -> Accepted:
    """As `negotiate`, of a request."""
    return negotiate(request.headers.get("accept", ""))


def respond(
    body: Any, accepted: Accepted, code: int = 200, warnings: Iterable[str] = ()
) -> Response:
    if accepted.yaml:
        content, media = yaml.safe_dump(body, sort_keys=False).encode(), "application/yaml"
    else:
        content, media = msgspec.json.encode(body), "application/json"
    response = Response(content, code, media_type=media)
    for warning in list(warnings)[:20]:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        text = f'299 - "{quoted}"'.encode("ascii", "backslashreplace")
        response.raw_headers.append((b"warning", text))
    return response


def status_response(error: errors.ApiError) -> Response:
    content = msgspec.json.encode(error.status())
    return Response(content, error.code, media_type="application/json", headers=error.headers)


@dataclass(frozen=True)
class Presenter:
    """`include`: what rows of a table carry: Metadata, Object or None."""

    kind: ApiKind[Any]
    form: Form
    now: float
    include: str = "Metadata"

    def one(self, held: Held) -> Json:
        if self.form is Form.TABLE:
            return self._table([held], {"resourceVersion": str(held.version)})
        return _metadata_of(held) if self.form is Form.METADATA else held.body

    def many(self, items: Iterable[Held], meta: Json) -> Json:
        if self.form is Form.TABLE:
            return self._table(items, meta)
        if self.form is Form.METADATA:
            kind, version = "PartialObjectMetadataList", META
        else:
            kind, version = f"{self.kind.name}List", self.kind.api_version
        listed = [self.one(held) for held in items]
        return {"kind": kind, "apiVersion": version, "metadata": meta, "items": listed}

    def bookmark(self, body: Json) -> Json:
        if self.form is Form.TABLE:
            row = {"cells": ["" for _ in self.kind.columns], "object": body}
            return {**self._table([], body["metadata"]), "rows": [row]}
        if self.form is Form.METADATA:
            return {**body, "kind": "PartialObjectMetadata", "apiVersion": META}
        return body

    def _table(self, items: Iterable[Held], meta: Json) -> Json:
        return {
            "kind": "Table",
            "apiVersion": META,
            "metadata": meta,
            "columnDefinitions": [
                {
                    "name": column.name,
                    "type": column.type,
                    "format": column.format,
                    "description": column.description or column.name,
                    "priority": column.priority,
                }
                for column in self.kind.columns
            ],
            "rows": [self._row(held) for held in items],
        }

    def _row(self, held: Held) -> Json:
        row: Json = {"cells": [c.cell(held.value, self.now) for c in self.kind.columns]}
        if self.include != "None":
            row["object"] = held.body if self.include == "Object" else _metadata_of(held)
        return row


def _metadata_of(held: Held) -> Json:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": META,
        "metadata": held.body["metadata"],
    }
