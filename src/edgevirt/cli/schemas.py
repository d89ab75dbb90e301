"""A kind's fields, read off the OpenAPI document that the fleet publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """`type`: as people say it: `string`, `[]Interface`, `map[string]string`. `default`: as JSON,
    empty where there is none worth telling."""

    name: str
    type: str
    text: str
    required: bool
    default: str
    choices: tuple[str, ...]
    schema: Schema

    @property
    def notes(self) -> str:
        """What else there is to say: `required`, one of which values, the default."""
        parts = ["required"] if self.required else []
        parts += [f"one of {', '.join(self.choices)}"] if self.choices else []
        parts += [f"default {self.default}"] if self.default else []
        return "; ".join(parts)


class Schemas:
    """`document`: OpenAPI v3, of one group and version."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]

    def kind(self, api_version: str, kind: str) -> Schema | None:
        group, _, version = api_version.rpartition("/")
        wanted = {"group": group, "version": version, "kind": kind}
        for schema in self._schemas.values():
            if wanted in schema.get("x-kubernetes-group-version-kind", ()):
                return schema
        return None

    def fields(self, schema: Schema) -> list[Field]:
        """Of an object, or of the objects in a list; none where there is nothing inside."""
        inner = self._inside(schema)
        required = inner.get("required", ())
        return [
            self._field(name, of, name in required)
            for name, of in inner.get("properties", {}).items()
        ]

    def text(self, schema: Schema) -> str:
        """What the thing itself is, besides what a field says that holds it."""
        found: str = self._inside(schema).get("description", "")
        return found

    def _field(self, name: str, schema: Schema, required: bool) -> Field:
        item = schema.get("items", schema)
        default = schema.get("default")
        return Field(
            name=name,
            type=self._type(schema),
            text=schema.get("description", ""),
            required=required,
            default="" if default in (None, {}, 0) else json.dumps(default),
            choices=tuple(item.get("enum", ())),
            schema=schema,
        )

    def _type(self, schema: Schema) -> str:
        if name := self._reference(schema):
            return name.rsplit(".", 1)[1]
        if schema.get("type") == "array":
            return f"[]{self._type(schema['items'])}"
        if "additionalProperties" in schema:
            return f"map[string]{self._type(schema['additionalProperties'])}"
        if schema.get("x-kubernetes-int-or-string"):
            return "integer or string"
        if schema.get("format") == "date-time":
            return "time"
        return str(schema.get("type", "any"))

    def _inside(self, schema: Schema) -> Schema:
        """Follows references and lists to what has the fields."""
        while True:
            if name := self._reference(schema):
                schema = self._schemas[name]
            elif schema.get("type") == "array":
                schema = schema["items"]
            elif isinstance(schema.get("additionalProperties"), dict):
                schema = schema["additionalProperties"]
            else:
                return schema

    def _reference(self, schema: Schema) -> str:
        for part in (schema, *schema.get("allOf", ())):
            if "$ref" in part:
                return str(part["$ref"]).rsplit("/", 1)[1]
        return ""

    def walk(self, schema: Schema, depth: int = 0) -> Iterator[tuple[int, Field]]:
        """All fields below, each before its own. Metadata, the same everywhere, is not entered."""
        for field in self.fields(schema):
            yield depth, field
            if field.type != "ObjectMeta":
                yield from self.walk(field.schema, depth + 1)
