"""OpenAPI documents, made from the shapes: for `kubectl explain`, checks and code generators."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.api.shapes import docs
from edgevirt.fleet.api.shapes.shapes import FieldShape, Shape, encode, shape_of
from edgevirt.fleet.objects.base.object import ApiStruct
from edgevirt.fleet.objects.kinds import GROUP, SERVED, ApiKind

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_BODIES = ("application/json", "application/yaml")
_PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)


def group_versions() -> tuple[str, ...]:
    """`api/v1`, `apis/edgevirt.io/v1alpha1` and so on."""
    return tuple(dict.fromkeys(_root(kind) for kind in SERVED))


def _root(kind: ApiKind[Any]) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


@functools.cache
def document(root: str, version: str) -> bytes | None:
    """The OpenAPI v3 document of one group and version, encoded. `version`: of the program."""
    kinds = [kind for kind in SERVED if _root(kind) == root]
    if not kinds:
        return None
    schemas: Json = {}
    paths: Json = {}
    for kind in kinds:
        _add_struct(shape_of(kind.type), schemas, kind)
        schemas[_list_name(kind)] = _list_schema(kind)
        paths.update(_paths(kind))
    schemas[f"{_META}.ListMeta"] = _LIST_META
    return msgspec.json.encode(
        {
            "openapi": "3.0.0",
            "info": {"title": "edgevirt", "version": version},
            "paths": paths,
            "components": {"schemas": schemas},
        }
    )


def index(version: str) -> Json:
    """The table of all documents; each address names its content."""
    paths = {}
    for root in group_versions():
        content = document(root, version) or b""
        mark = hashlib.sha256(content).hexdigest().upper()
        paths[root] = {"serverRelativeURL": f"/openapi/v3/{root}?hash={mark}"}
    return {"paths": paths}


def document_v2(version: str) -> Json:
    """Enough of the older form for clients that ask for it first."""
    info = {"title": "edgevirt", "version": version}
    return {"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}


# -- schemas --


def _struct_name(struct: type[ApiStruct]) -> str:
    name = struct.__name__
    if name in ("ObjectMeta", "OwnerReference", "Condition"):
        return f"{_META}.{name}"
    if name == "ManagedFields":
        return f"{_META}.ManagedFieldsEntry"
    return f"io.edgevirt.v1alpha1.{name}"


def _list_name(kind: ApiKind[Any]) -> str:
    return _struct_name(kind.type) + "List"


def _add_struct(shape: Shape, schemas: Json, kind: ApiKind[Any] | None = None) -> None:
    struct = shape.struct
    if struct is None or _struct_name(struct) in schemas:
        return
    properties: Json = {}
    schema: Json = {
        "type": "object",
        "description": docs.struct_doc(struct),
        "properties": properties,
    }
    schemas[_struct_name(struct)] = schema
    if kind is not None:
        properties["apiVersion"] = {"type": "string", "description": "Version of this object."}
        properties["kind"] = {"type": "string", "description": "Kind of this object."}
        schema["x-kubernetes-group-version-kind"] = [_gvk(kind)]
    needed = [name for name, field in shape.fields.items() if field.required]
    if needed:
        schema["required"] = needed
    for name, field in shape.fields.items():
        properties[name] = _property(field)
        _add_inner(field.shape, schemas)


def _add_inner(shape: Shape, schemas: Json) -> None:
    _add_struct(shape, schemas)
    if shape.item is not None:
        _add_inner(shape.item, schemas)


def _property(field: FieldShape) -> Json:
    schema = _schema(field.shape)
    if "$ref" in schema:
        return {"allOf": [schema], "description": field.doc, "default": {}}
    if field.shape.form == "scalar" and field.default not in (None, ""):
        schema["default"] = encode(field.default)
    return {**schema, "description": field.doc}


def _schema(shape: Shape) -> Json:
    match shape.form:
        case "struct" if shape.struct is not None:
            return {"$ref": f"#/components/schemas/{_struct_name(shape.struct)}"}
        case "map":
            return {"type": "object", "additionalProperties": _schema(shape.element)}
        case "list":
            schema: Json = {"type": "array", "items": _schema(shape.element)}
            schema["x-kubernetes-list-type"] = shape.merge
            if shape.keys:
                schema["x-kubernetes-list-map-keys"] = list(shape.keys)
            return schema
        case "scalar":
            return _scalar(shape)
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _scalar(shape: Shape) -> Json:
    if set(shape.types) == {"integer", "string"}:
        kinds = [{"type": "integer"}, {"type": "string"}]
        return {"x-kubernetes-int-or-string": True, "anyOf": kinds}
    schema: Json = {"type": shape.types[0]}
    if shape.types[0] == "integer":
        schema["format"] = "int64"
    if shape.format:
        schema["format"] = shape.format
    if shape.enum:
        schema["enum"] = list(shape.enum)
    return schema


_LIST_META: Json = {
    "type": "object",
    "description": "Of a list.",
    "properties": {
        "continue": {"type": "string", "description": "Where the next part begins."},
        "remainingItemCount": {
            "type": "integer",
            "format": "int64",
            "description": "How many items follow.",
        },
        "resourceVersion": {"type": "string", "description": "A watch can go on from here."},
        "selfLink": {"type": "string", "description": "Obsolete."},
    },
}


def _list_schema(kind: ApiKind[Any]) -> Json:
    item = {"$ref": f"#/components/schemas/{_struct_name(kind.type)}"}
    meta = {"$ref": f"#/components/schemas/{_META}.ListMeta"}
    return {
        "type": "object",
        "description": f"A list of {kind.plural}.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this list."},
            "kind": {"type": "string", "description": "Kind of this list."},
            "metadata": {"allOf": [meta], "default": {}, "description": "Metadata of the list."},
            "items": {"type": "array", "items": item, "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": [{**_gvk(kind), "kind": f"{kind.name}List"}],
    }


def _gvk(kind: ApiKind[Any]) -> Json:
    return {"group": kind.group, "version": kind.version, "kind": kind.name}


# -- paths --


def _query(*names: str) -> list[Json]:
    types = {"limit": "integer", "timeoutSeconds": "integer", "watch": "boolean"}
    types |= {"allowWatchBookmarks": "boolean", "force": "boolean"}
    return [
        {"name": name, "in": "query", "schema": {"type": types.get(name, "string")}}
        for name in names
    ]


_LIST = ("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion",
         "resourceVersionMatch", "watch", "allowWatchBookmarks", "timeoutSeconds")  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")


def _paths(kind: ApiKind[Any]) -> Json:
    root = f"/{_root(kind)}"
    place = f"{root}/namespaces/{{namespace}}/{kind.plural}"
    paths: Json = {}
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": _operation(kind, "list", _LIST, many=True)}
    else:
        place = f"{root}/{kind.plural}"
    inside = ("namespace",) if kind.namespaced else ()
    paths[place] = {
        "parameters": _in_path(inside),
        "get": _operation(kind, "list", _LIST, many=True),
        "post": _operation(kind, "post", _WRITE, bodies=_BODIES),
        "delete": _operation(kind, "deletecollection", (*_LIST[:3], "dryRun")),
    }
    names = ["", *(["/status"] if kind.has_status else [])]
    for sub in names:
        paths[f"{place}/{{name}}{sub}"] = {
            "parameters": _in_path((*inside, "name")),
            "get": _operation(kind, "get", ()),
            "put": _operation(kind, "put", _WRITE, bodies=_BODIES),
            "patch": _operation(kind, "patch", (*_WRITE, "force"), bodies=_PATCHES),
            **({} if sub else {"delete": _operation(kind, "delete", ("dryRun",))}),
        }
    return paths


def _in_path(names: Iterable[str]) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


def _operation(
    kind: ApiKind[Any],
    action: str,
    query: tuple[str, ...],
    *,
    many: bool = False,
    bodies: tuple[str, ...] = (),
) -> Json:
    name = _list_name(kind) if many else _struct_name(kind.type)
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    operation: Json = {
        "tags": [f"{GROUP}_{kind.version}" if kind.group == GROUP else kind.version],
        "parameters": _query(*query),
        "responses": {"200": {"description": "OK", "content": answer}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
    }
    if bodies:
        own = {"$ref": f"#/components/schemas/{_struct_name(kind.type)}"}
        schema = own if action != "patch" else {"type": "object"}
        content = {media: {"schema": schema} for media in bodies}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
