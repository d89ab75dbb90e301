"""Sets of fields: which an object has, how two objects differ, and what is left without some.

A field is a path of elements in the notation of Kubernetes' `fieldsV1`: `f:NAME` for a field or a
map's key, `k:{…}` for a list's element by its keys, `v:…` for an element of a set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from edgevirt.fleet.api.shapes.shapes import Shape, encode

Path = tuple[str, ...]
Fields = frozenset[Path]


class _Item:
    """Stands for a list's element as such, besides its fields."""


ITEM = _Item()
MISSING = _Item()
MAX_DEPTH = 64


def leaves(value: Any, shape: Shape) -> dict[Path, Any]:
    """Every field that `value` sets, with what it is set to."""
    found: dict[Path, Any] = {}
    _collect(value, shape, (), found)
    return found


def _collect(value: Any, shape: Shape, at: Path, found: dict[Path, Any]) -> None:
    if shape.form in ("struct", "map") and isinstance(value, dict) and value:
        for name, inner in value.items():
            part = shape.fields[name].shape if shape.form == "struct" else shape.element
            _collect(inner, part, (*at, f"f:{name}"), found)
    elif shape.merge == "map" and value:
        for item in value:
            here = (*at, item_element(item, shape))
            found[here] = ITEM
            _collect(item, shape.element, here, found)
    elif shape.merge == "set" and value:
        for item in value:
            found[(*at, _value_element(item))] = item
    elif at:
        found[at] = value


def item_element(item: Mapping[str, Any], shape: Shape) -> str:
    """Names an element of a list by its keys, the defaults of absent ones included."""
    fields = shape.element.fields
    keys = {key: item.get(key, encode(fields[key].default)) for key in sorted(shape.keys)}
    return "k:" + msgspec.json.encode(keys).decode()


def _value_element(item: Any) -> str:
    return "v:" + msgspec.json.encode(item).decode()


def merge(live: Any, wanted: Any, shape: Shape) -> Any:
    """`live` with all that `wanted` sets."""
    if shape.form in ("struct", "map") and isinstance(live, dict) and isinstance(wanted, dict):
        merged = dict(live)
        for name, inner in wanted.items():
            part = shape.fields[name].shape if shape.form == "struct" else shape.element
            merged[name] = merge(merged[name], inner, part) if name in merged else inner
        return merged
    if shape.merge == "set" and live:
        return [*live, *(item for item in wanted if item not in live)]
    if shape.merge == "map" and live:
        return _merge_items(live, wanted, shape)
    return wanted


def _merge_items(live: list[Any], wanted: list[Any], shape: Shape) -> list[Any]:
    """In the order of `wanted` when it names all elements; else new ones come last."""
    present = {item_element(item, shape): item for item in live}
    given = {item_element(item, shape): item for item in wanted}
    merged = {
        element: merge(present[element], item, shape.element) if element in present else item
        for element, item in given.items()
    }
    if present.keys() <= given.keys():
        return list(merged.values())
    kept = {element: merged.pop(element, item) for element, item in present.items()}
    return [*kept.values(), *merged.values()]


def without(value: Any, shape: Shape, gone: Fields, kept: Fields) -> Any:
    """`value` less the fields in `gone`. An element of a list goes whole, unless a field of it is
    in `kept`. What becomes empty by that goes too."""
    holders = frozenset(path[:length] for path in kept for length in range(1, len(path) + 1))
    left = _without(value, shape, (), gone, holders)
    return {} if left is MISSING else left


def _without(value: Any, shape: Shape, at: Path, gone: Fields, holders: Fields) -> Any:
    if shape.form in ("struct", "map") and isinstance(value, dict) and value:
        left = {}
        for name, inner in value.items():
            part = shape.fields[name].shape if shape.form == "struct" else shape.element
            rest = _without(inner, part, (*at, f"f:{name}"), gone, holders)
            if rest is not MISSING:
                left[name] = rest
        return left or MISSING
    if shape.merge == "map" and value:
        return _without_items(value, shape, at, gone, holders)
    if shape.merge == "set" and value:
        return [v for v in value if (*at, _value_element(v)) not in gone] or MISSING
    return MISSING if at in gone else value


def _without_items(value: Any, shape: Shape, at: Path, gone: Fields, holders: Fields) -> Any:
    left = []
    for item in value:
        here = (*at, item_element(item, shape))
        if here in gone and here not in holders:
            continue
        rest = _without(item, shape.element, here, gone, holders)
        keys = {key: item[key] for key in shape.keys if key in item}
        left.append({**keys, **({} if rest is MISSING else rest)})
    return left or MISSING


def to_v1(fields: Iterable[Path]) -> dict[str, Any]:
    """As nested maps."""
    root: dict[str, Any] = {}
    members = sorted(fields)
    for path in members:
        node = root
        for element in path:
            node = node.setdefault(element, {})
    for path in members:
        node = root
        for element in path:
            node = node[element]
        if node:
            node["."] = {}
    return root


def from_v1(nested: Mapping[str, Any]) -> Fields:
    """The reverse of `to_v1`; raises ValueError."""
    found: set[Path] = set()
    _read(nested, (), found)
    return frozenset(found)


def _read(nested: Any, at: Path, found: set[Path]) -> None:
    if not isinstance(nested, Mapping) or len(at) > MAX_DEPTH:
        raise ValueError("cannot read fieldsV1: it is not nested maps")
    if not nested and at:
        found.add(at)
    for element, inner in nested.items():
        if element == ".":
            found.add(at)
        elif element[:2] in ("f:", "k:", "v:", "i:"):
            _read(inner, (*at, element), found)
        else:
            raise ValueError(f"cannot read fieldsV1: {element!r} is no element of a path")


def for_people(path: Path) -> str:
    """`.spec.interfaces[name="eth0"].ip`, as conflicts name fields."""
    text = ""
    for element in path:
        if element.startswith("f:"):
            text += "." + element[2:]
        elif element.startswith("k:"):
            keys = msgspec.json.decode(element[2:])
            listed = ",".join(
                f"{key}={msgspec.json.encode(value).decode()}" for key, value in keys.items()
            )
            text += f"[{listed}]"
        else:
            text += f"[={element[2:]}]"
    return text
