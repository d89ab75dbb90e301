"""What a fleet can be asked for: its kinds, and their objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx

from edgevirt.client.errors import ClientError, Refused
from edgevirt.client.kubeconfig import Connection
from edgevirt.client.resources import Object, ResourceType
from edgevirt.client.transport import Transport

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_ROOTS: Final = ("/api/v1", "/apis/edgevirt.io/v1alpha1")
_MANAGER: Final = "edgevirt"
_WATCH_SILENCE: Final = 150.0
"""Seconds without a word after which a watch is dead: the fleet sends a bookmark each minute."""
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Client:
    """One connection to a fleet. Every method raises Refused or ClientError."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`warn` hears what the fleet says beside its answers."""
        self.namespace = connection.namespace
        self._types: list[ResourceType] | None = None
        self._timeout = timeout
        self._transport = Transport(connection, timeout, warn)

    def close(self) -> None:
        self._transport.close()

    # -- discovery --

    def types(self) -> list[ResourceType]:
        """Every kind that the fleet serves."""
        if self._types is None:
            self._types = [t for root in _ROOTS for t in self._types_of(root)]
        return self._types

    def _types_of(self, root: str) -> Iterator[ResourceType]:
        answer = self._transport.json("GET", root)
        for entry in answer.get("resources", ()):
            if "/" in entry["name"]:
                continue
            yield ResourceType(
                kind=entry["kind"],
                plural=entry["name"],
                singular=entry.get("singularName") or entry["kind"].lower(),
                short_names=tuple(entry.get("shortNames") or ()),
                namespaced=entry["namespaced"],
                api_version=answer["groupVersion"],
                verbs=tuple(entry["verbs"]),
            )

    def type_of(self, word: str) -> ResourceType:
        """By kind, plural, singular or short name, as kubectl takes them."""
        for found in self.types():
            if found.answers_to(word):
                return found
        known = ", ".join(sorted(t.plural for t in self.types()))
        raise ClientError(f"cannot find a kind called {word!r}", f"the fleet has {known}")

    # -- objects --

    def get(self, type_: ResourceType, namespace: str | None, name: str) -> Object:
        return self._transport.json("GET", type_.object_path(namespace, name))

    def find(
        self, type_: ResourceType, namespace: str | None, name: str, sub: str = ""
    ) -> Object | None:
        """None where there is none. `sub`: what is told of it beside, such as `metrics`."""
        try:
            return self._transport.json("GET", type_.object_path(namespace, name, sub))
        except Refused as refused:
            if refused.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    def list(
        self, type_: ResourceType, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> Object:
        query = _selectors(labels, fields)
        return self._transport.json("GET", type_.path(namespace), params=query)

    def table(
        self,
        type_: ResourceType,
        namespace: str | None,
        name: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
    ) -> Object:
        """A meta.k8s.io/v1 Table. `limit`: at most so many rows; 0: all."""
        query = _selectors(labels, fields) | ({"limit": str(limit)} if limit else {})
        path = type_.path(namespace, name)
        return self._transport.json("GET", path, params=query, headers={"Accept": _TABLE})

    def watch(
        self,
        type_: ResourceType,
        namespace: str | None,
        *,
        fields: str = "",
        labels: str = "",
        since: str = "",
        timeout: float | None = None,
        table: bool = False,
    ) -> Iterator[Object]:
        """Watch events (`type`, `object`), until the server or `timeout` seconds end it; bookmarks
        are among them. With `table` each object is a Table of one row. Raises Refused (410) when
        `since` is too old to go on from."""
        query = {"watch": "1", "allowWatchBookmarks": "true", **_selectors(labels, fields)}
        if since:
            query["resourceVersion"] = since
        if timeout is not None:
            query["timeoutSeconds"] = str(max(1, int(timeout)))
        silence = min(timeout, _WATCH_SILENCE) if timeout is not None else _WATCH_SILENCE
        limits = httpx.Timeout(silence, connect=10.0)
        headers = {"Accept": _TABLE} if table else {}
        with self._transport.lines(type_.path(namespace), query, limits, headers) as lines:
            try:
                for line in lines:
                    if line:
                        yield _watched(json.loads(line))
            except httpx.ReadTimeout:
                return

    def create(
        self, type_: ResourceType, namespace: str | None, body: Object, *, dry_run: bool = False
    ) -> Object:
        query = _writing(dry_run=dry_run)
        return self._transport.json("POST", type_.path(namespace), params=query, body=body)

    def apply(
        self,
        type_: ResourceType,
        namespace: str | None,
        body: Object,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply."""
        query = _writing(dry_run=dry_run) | ({"force": "true"} if force else {})
        path = type_.object_path(namespace, body["metadata"]["name"])
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._transport.json("PATCH", path, params=query, body=body, headers=headers)

    def replace(self, type_: ResourceType, namespace: str | None, body: Object) -> Object:
        path = type_.object_path(namespace, body["metadata"]["name"])
        return self._transport.json("PUT", path, params=_writing(), body=body)

    def patch(
        self,
        type_: ResourceType,
        namespace: str | None,
        name: str,
        change: Any,
        *,
        style: str,
        sub: str = "",
    ) -> Object:
        """`style`: `merge` (RFC 7386) or `json` (RFC 6902). `sub`: a subresource to write to."""
        headers = {"Content-Type": f"application/{style}-patch+json"}
        path = type_.object_path(namespace, name, sub)
        return self._transport.json("PATCH", path, params=_writing(), body=change, headers=headers)

    def delete(
        self, type_: ResourceType, namespace: str | None, name: str, *, dry_run: bool = False
    ) -> Object:
        """The Status of what is gone; or the object itself, while it waits for its finalizers."""
        query = {"dryRun": "All"} if dry_run else {}
        return self._transport.json("DELETE", type_.object_path(namespace, name), params=query)

    def read(self, path: str, **query: str) -> Object:
        """GET of any path of the API."""
        return self._transport.json("GET", path, params=query)

    def content(self, path: str) -> bytes:
        """What is no JSON, as it is; of at most some MiB."""
        return self._transport.content(path)

    def lines(self, path: str, *, follow: bool, **query: str) -> Iterator[str]:
        """Lines of a text answer; with `follow` as they come, without end."""
        limits = httpx.Timeout(None, connect=10.0) if follow else self._timeout
        query |= {"follow": "true"} if follow else {}
        with self._transport.lines(path, query, limits) as lines:
            yield from lines

    def connect(self, path: str, *, max_size: int, **query: str) -> ClientConnection:
        """A websocket, the caller's to close. `max_size`: of one message, in bytes."""
        return self._transport.connect(path, query, max_size=max_size)


def _watched(event: Object) -> Object:
    """Raises Refused when the event says that the watch cannot go on."""
    if event["type"] == "ERROR":
        status = event["object"]
        code, reason = int(status.get("code", 500)), status.get("reason", "")
        raise Refused(code, reason, status.get("message", "cannot go on watching"))
    return event


def _writing(*, dry_run: bool = False) -> dict[str, str]:
    query = {"fieldManager": _MANAGER, "fieldValidation": "Strict"}
    return query | ({"dryRun": "All"} if dry_run else {})


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in query.items() if value}
