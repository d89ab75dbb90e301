"""Bodies of requests: bounded in size, depth and time, in JSON, YAML or Kubernetes' protobuf."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import yaml

from edgevirt.fleet.api.bodies import protobuf
from edgevirt.fleet.api.errors import bad_request

MAX_BYTES = 3 * 1024 * 1024
"""As Kubernetes' own bound."""
MAX_SECONDS = 30.0
"""Within which a body must have come."""
MAX_DEPTH = 64
MAX_NODES = 200_000
"""Values in one YAML body."""

JSON = "application/json"
YAML = "application/yaml"
OBJECTS = (JSON, YAML, protobuf.MEDIA)
"""Media types of whole objects; protobuf for a few kinds only."""


def parse(body: bytes, media_type: str) -> Any:
    """The decoded body. Raises ApiError."""
    if not body.strip():
        raise bad_request("the request has no body")
    if media_type == protobuf.MEDIA:
        return protobuf.parse(body)
    if media_type == YAML or media_type.endswith("+yaml"):
        return parse_yaml(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"cannot read the body as JSON: {error}") from None
    _bound(value, 0)
    return value


def parse_yaml(body: bytes) -> Any:
    """YAML as far as it can stand for JSON: no aliases, no tags, only text as keys."""
    try:
        _scan(body)
        value = yaml.load(body, Loader=_JsonLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise bad_request(f"cannot read the body as YAML: {words}") from None
    _bound(value, 0)
    return value


def _scan(body: bytes) -> None:
    """Refuses what could grow, before anything is built."""
    depth = documents = 0
    for nodes, event in enumerate(yaml.parse(body, Loader=_JsonLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not accepted")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            depth += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or nodes > MAX_NODES or documents > 1:
            raise ValueError("it is too deep, too long, or more than one document")


class _JsonLoader(yaml.CSafeLoader):
    """Reads a date as text, as JSON has no dates."""


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in rules if not tag.endswith((":timestamp", ":merge"))]
    for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _bound(value: Any, depth: int) -> None:
    """Refuses depth, keys that are no text, and numbers that JSON does not have."""
    if depth > MAX_DEPTH:
        raise bad_request(f"cannot read the body: it is deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise bad_request(f"cannot read the body: key {key!r} is no text")
            _bound(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _bound(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise bad_request("cannot read the body: it has a number that is not finite")
    elif not isinstance(value, str | int | float | bool | None):
        raise bad_request(f"cannot read the body: it has a {type(value).__name__}")
