"""Which objects each node's config is made of, so that a change touches the right nodes alone.

Holds no objects, just their names and a mark of each one's content: 100,000 nodes have to fit. A
digest over the marks tells whether a config that was rendered earlier, perhaps by an earlier
process, is still what would be rendered now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import ApiObject, object_key
from edgevirt.fleet.objects.project.references import references_of

EDGE_NODE: Final = "EdgeNode"
APP_INSTANCE: Final = "AppInstance"
VOLUME: Final = "Volume"
RENDERED: Final = (
    EDGE_NODE, APP_INSTANCE, "App", "Image", "OSImage", "NetworkInstance", "Datastore", "Secret",
    "HardwareModel", "Volume",
)  # fmt: skip
"""Kinds that configs are made of."""

Item = tuple[str, str]
"""Kind, and key in the store."""


class Dependencies:
    """A graph of names. Objects may name what is not there (yet)."""

    def __init__(self) -> None:
        self._marks: dict[Item, int] = {}
        self._uses: dict[Item, tuple[Item, ...]] = {}
        self._users: dict[Item, set[Item]] = {}

    def put(self, kind: str, key: str, value: ApiObject, version: int) -> tuple[str, ...]:
        """Takes an object's present state in; returns keys of the EdgeNodes whose config it may
        change, which are none when only its status did.
        """
        item = (kind, key)
        mark = _mark(value, version)
        if self._marks.get(item) == mark:
            return ()
        touched = set(self.nodes_of(item))
        self._marks[item] = mark
        self._link(item, _uses(kind, value))
        touched.update(self.nodes_of(item))
        return tuple(touched)

    def remove(self, kind: str, key: str) -> tuple[str, ...]:
        """As `put`, for an object that is gone."""
        item = (kind, key)
        touched = tuple(set(self.nodes_of(item)))
        self._marks.pop(item, None)
        self._link(item, ())
        return touched

    def nodes_of(self, item: Item) -> Iterator[str]:
        """Keys of the EdgeNodes whose configs hold this object, directly or not."""
        if item[0] == EDGE_NODE:
            yield item[1]
        elif item[0] == APP_INSTANCE:
            yield from (key for kind, key in self._uses.get(item, ()) if kind == EDGE_NODE)
        else:
            if item[0] == VOLUME:
                yield from (key for kind, key in self._uses.get(item, ()) if kind == EDGE_NODE)
            for user in self._users.get(item, ()):
                yield from self.nodes_of(user)

    def instances_of(self, edge_node: str) -> list[str]:
        """Keys of the AppInstances that are meant for the node."""
        users = self._users.get((EDGE_NODE, edge_node), ())
        return sorted(key for kind, key in users if kind == APP_INSTANCE)

    def volumes_of(self, edge_node: str) -> list[str]:
        """Keys of the Volumes that are on the node."""
        users = self._users.get((EDGE_NODE, edge_node), ())
        return sorted(key for kind, key in users if kind == VOLUME)

    def items_of(self, edge_node: str) -> list[Item]:
        """Everything that the node's config is made of, in order; what is missing included."""
        node = (EDGE_NODE, edge_node)
        found = {node}
        there = (APP_INSTANCE, VOLUME)
        ahead = [item for item in self._users.get(node, ()) if item[0] in there]
        ahead.extend(item for item in self._uses.get(node, ()) if item[0] in RENDERED)
        while ahead:
            item = ahead.pop()
            if item not in found:
                found.add(item)
                used = (one for one in self._uses.get(item, ()) if one[0] in RENDERED)
                # an App may name a Volume that is on another node: that node is not part of it
                ahead.extend(one for one in used if one[0] != EDGE_NODE)
        return sorted(found)

    def digest_of(self, edge_node: str, *more: bytes) -> bytes:
        """16 bytes that change when the config's objects do, or something of `more`."""
        digest = hashlib.blake2b(digest_size=16)
        for item in self.items_of(edge_node):
            digest.update(f"{item[0]} {item[1]} {self._marks.get(item, 0)}\n".encode())
        for part in more:
            digest.update(b"%d:" % len(part) + part)
        return digest.digest()

    def exists(self, kind: str, key: str) -> bool:
        return (kind, key) in self._marks

    def _link(self, item: Item, uses: Iterable[Item]) -> None:
        for used in self._uses.pop(item, ()):
            users = self._users[used]
            users.discard(item)
            if not users:
                del self._users[used]
        linked = tuple(dict.fromkeys(uses))  # one may use another twice
        if linked:
            self._uses[item] = linked
        for used in linked:
            self._users.setdefault(used, set()).add(item)


def _uses(kind: str, value: ApiObject) -> Iterator[Item]:
    namespace = value.metadata.namespace
    for reference in references_of(kind, value):
        if reference.kind in RENDERED:
            yield reference.kind, object_key(namespace, reference.name)


def _mark(value: ApiObject, version: int) -> int:
    """Kinds with a status are marked by their generation, which a status doesn't move; but the
    snapshots that a node tells of are named in its config.
    """
    meta = value.metadata
    state: object = meta.generation if hasattr(value, "status") else version
    if isinstance(value, AppInstance) and value.status.snapshots:
        state = (state, *(one.id for one in value.status.snapshots if one.version))
    text = f"{meta.uid} {state}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
