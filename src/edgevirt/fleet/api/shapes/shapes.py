"""The structure of each kind as data, read off its struct: for checking, merging and explaining."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import inspect

from edgevirt.fleet.api.shapes import docs
from edgevirt.fleet.objects.base.object import ApiStruct

Form = Literal["struct", "map", "list", "scalar", "any"]
Merge = Literal["atomic", "set", "map"]


@dataclass(frozen=True)
class Shape:
    """What a value in an object may look like.

    `types`: JSON types of a scalar. `fields`: of a struct, by JSON name. `item`: of a map's values
    or a list's elements. `merge` and `keys`: what server-side apply makes of a list.
    """

    form: Form
    types: tuple[str, ...] = ()
    enum: tuple[str, ...] = ()
    format: str = ""
    fields: Mapping[str, FieldShape] = field(default_factory=dict)
    item: Shape | None = None
    merge: Merge = "atomic"
    keys: tuple[str, ...] = ()
    struct: type[ApiStruct] | None = None

    @property
    def element(self) -> Shape:
        """`item`, where there must be one."""
        if self.item is None:
            raise TypeError(f"cannot look into a {self.form}: it has no elements")
        return self.item


@dataclass(frozen=True)
class FieldShape:
    """A field of a struct. `default`: what its absence stands for; None when nothing does."""

    name: str
    attribute: str
    shape: Shape
    required: bool
    default: Any
    doc: str


_SCALARS: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.BoolType: "boolean",
    inspect.FloatType: "number",
}


@functools.cache
def shape_of(struct: type[ApiStruct]) -> Shape:
    return _shape(inspect.type_info(struct), {})


def _shape(info: inspect.Type, extra: Mapping[str, Any]) -> Shape:
    match info:
        case inspect.Metadata():
            return _shape(info.type, info.extra_json_schema or {})
        case inspect.UnionType():
            return _union(
                [_shape(t, {}) for t in info.types if not isinstance(t, inspect.NoneType)]
            )
        case inspect.StructType():
            return _struct(info)
        case inspect.DictType():
            return Shape("map", item=_shape(info.value_type, {}))
        case inspect.VarTupleType() | inspect.ListType():
            return _list(_shape(info.item_type, {}), extra)
        case inspect.LiteralType():
            return Shape("scalar", types=("string",), enum=tuple(str(v) for v in info.values))
        case inspect.AnyType():
            return Shape("any")
    if type(info) in _SCALARS:
        return Shape("scalar", types=(_SCALARS[type(info)],), format=extra.get("format", ""))
    raise TypeError(f"cannot serve a field of type {info}")


def _union(parts: list[Shape]) -> Shape:
    if len(parts) == 1:
        return parts[0]
    return Shape("scalar", types=tuple(t for part in parts for t in part.types))


def _list(item: Shape, extra: Mapping[str, Any]) -> Shape:
    if extra.get("x-kubernetes-list-type") == "set":
        return Shape("list", item=item, merge="set")
    if item.struct is not None and item.struct.merge_keys:
        return Shape("list", item=item, merge="map", keys=item.struct.merge_keys)
    return Shape("list", item=item)


def _struct(info: inspect.StructType) -> Shape:
    struct = info.cls
    if not issubclass(struct, ApiStruct):
        raise TypeError(f"cannot serve {struct}: it is no ApiStruct")
    texts = docs.field_docs(struct)
    fields = {
        f.encode_name: FieldShape(
            name=f.encode_name,
            attribute=f.name,
            shape=_shape(f.type, {}),
            required=f.required,
            default=_default(f),
            doc=texts.get(f.name, ""),
        )
        for f in info.fields
    }
    return Shape("struct", fields=fields, struct=struct)


def _default(info: inspect.Field) -> Any:
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return None if info.default is msgspec.NODEFAULT else info.default


def encode(value: Any) -> Any:
    """A struct as JSON values. Unlike msgspec's own, it shows defaults, and leaves out what is
    empty by default, as Kubernetes does."""
    if isinstance(value, ApiStruct):
        result: dict[str, Any] = {}
        for name, field_shape in shape_of(type(value)).fields.items():
            inner = getattr(value, field_shape.attribute)
            if inner is None or (_is_empty(inner) and _is_empty(field_shape.default)):
                continue
            result[name] = encode(inner)
        return result
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | tuple | dict) and not value
