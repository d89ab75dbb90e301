"""Objects and their kinds as the fleet tells them, and where they stand in its API."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Any

from edgevirt.client.errors import ClientError

Object = dict[str, Any]
"""An API object as JSON: apiVersion, kind, metadata, spec, status."""


@dataclass(frozen=True)
class ResourceType:
    """One kind as discovery tells it."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    api_version: str
    verbs: tuple[str, ...]

    @property
    def root(self) -> str:
        group = "/apis/" if "/" in self.api_version else "/api/"
        return group + self.api_version

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be called by."""
        return (self.plural, self.singular, self.kind.lower(), *self.short_names)

    def answers_to(self, word: str) -> bool:
        """`edgenodes`, `EdgeNode`, `en`, `edgenodes.edgevirt.io`."""
        name, _, group = word.lower().partition(".")
        own = self.api_version.rpartition("/")[0]
        return name in self.words and (not group or own == group or group.endswith(f".{own}"))

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """URL path of a collection (no name; namespace None: all projects) or of an object."""
        parts = [self.root]
        if self.namespaced and namespace is not None:
            parts.append(f"namespaces/{_segment(namespace)}")
        parts += [part for part in (self.plural, _segment(name) if name else "", sub) if part]
        return "/".join(parts)

    def object_path(self, namespace: str | None, name: str, sub: str = "") -> str:
        """As `path`, of one object. An empty name is refused: without it the path would be that of
        all objects."""
        return f"{self.path(namespace)}/{_segment(name)}" + (f"/{sub}" if sub else "")


def _segment(text: str) -> str:
    """Of a path. No name needs quoting; a mistyped one must not become another path."""
    if text in {"", ".", ".."}:
        raise ClientError(f"cannot use {text!r} as a name")
    return urllib.parse.quote(text, safe="")
