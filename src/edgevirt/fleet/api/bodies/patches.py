"""Patches of JSON values: merge (RFC 7386), JSON (RFC 6902), and Kubernetes' strategic merge as
far as kubectl uses it on core kinds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec

from edgevirt.fleet.api.bodies.bodies import MAX_BYTES
from edgevirt.fleet.api.errors import ApiError, bad_request

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
MAX_OPERATIONS = 1000


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


_UNITED = {"finalizers"}
"""Lists of the core kinds whose elements are merged; the others are replaced."""


def strategic(target: Any, patch: Any) -> Any:
    """For kinds whose lists are replaced whole, but for finalizers."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) and directive != "replace" else {}
    if (retained := patch.get("$retainKeys")) is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name, ()) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif key in _UNITED and isinstance(value, list):
            present = result.get(key, [])
            result[key] = [*present, *(item for item in value if item not in present)]
        else:
            result[key] = strategic(result.get(key), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. Raises ApiError: 400 when it cannot be read, 422 when it does not fit."""
    if not isinstance(operations, list):
        raise bad_request("cannot read the patch: a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        why = f"the patch has more than {MAX_OPERATIONS} operations"
        raise ApiError(413, "RequestEntityTooLarge", why)
    document = copy.deepcopy(target)
    for operation in operations:
        document = _operate(document, operation)
    return document


def _operate(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise bad_request("cannot read the patch: an operation is an object")
    act = _ACTS.get(str(operation.get("op")))
    if act is None:
        raise bad_request(f"cannot read the patch: unknown operation {operation.get('op')!r}")
    try:
        return act(document, operation)
    except KeyError as error:
        raise bad_request(f"cannot read the patch: an operation lacks {error}") from None
    except _Misfit as misfit:
        raise ApiError(422, "Invalid", f"cannot apply the patch: {misfit}") from None


class _Misfit(Exception):
    """The document is not as an operation needs it."""


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _Misfit(f"{text!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(holder: list[Any], part: str, limit: int) -> int:
    if not part.isascii() or not part.isdigit() or int(part) > limit:
        raise _Misfit(f"{part!r} is no index of a list of {len(holder)}")
    return int(part)


def _step(holder: Any, part: str) -> Any:
    if isinstance(holder, list):
        return holder[_index(holder, part, len(holder) - 1)]
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    raise _Misfit(f"there is no {part!r}")


def _find(document: Any, parts: list[str]) -> Any:
    for part in parts:
        document = _step(document, part)
    return document


def _add(document: Any, operation: dict[str, Any]) -> Any:
    return _put(document, _pointer(operation["path"]), operation["value"])


def _put(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    holder = _find(document, parts[:-1])
    if isinstance(holder, list):
        at = len(holder) if parts[-1] == "-" else _index(holder, parts[-1], len(holder))
        holder.insert(at, value)
    elif isinstance(holder, dict):
        holder[parts[-1]] = value
    else:
        raise _Misfit(f"there is no place for {parts[-1]!r}")
    return document


def _remove(document: Any, operation: dict[str, Any]) -> Any:
    _take(document, _pointer(operation["path"]))
    return document


def _take(document: Any, parts: list[str]) -> Any:
    if not parts:
        raise _Misfit("the whole object cannot be removed")
    holder = _find(document, parts[:-1])
    value = _step(holder, parts[-1])
    if isinstance(holder, list):
        del holder[int(parts[-1])]
    else:
        del holder[parts[-1]]
    return value


def _replace(document: Any, operation: dict[str, Any]) -> Any:
    parts = _pointer(operation["path"])
    if not parts:
        return operation["value"]
    holder = _find(document, parts[:-1])
    _step(holder, parts[-1])
    holder[int(parts[-1]) if isinstance(holder, list) else parts[-1]] = operation["value"]
    return document


def _move(document: Any, operation: dict[str, Any]) -> Any:
    source, target = _pointer(operation["from"]), _pointer(operation["path"])
    if target[: len(source)] == source and target != source:
        raise _Misfit("a value cannot be moved into itself")
    return _put(document, target, _take(document, source)) if target != source else document


def _copy(document: Any, operation: dict[str, Any]) -> Any:
    value = copy.deepcopy(_find(document, _pointer(operation["from"])))
    result = _put(document, _pointer(operation["path"]), value)
    if len(msgspec.json.encode(result)) > MAX_BYTES:
        raise _Misfit("the object would become too large")
    return result


def _test(document: Any, operation: dict[str, Any]) -> Any:
    found = _find(document, _pointer(operation["path"]))
    if not _same(found, operation["value"]):
        raise _Misfit(f"the test of {operation['path']} failed")
    return document


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


_ACTS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
