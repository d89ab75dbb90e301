"""Every node's config, made when the node asks for it: cheap to tell «unchanged».

Watching the store costs a change no more than forgetting the hashes of the nodes that it concerns.
A node's next poll finds the hash again: first from a digest of what the config is made of, which
the last rendering left in the store, and only if that differs by rendering. So a restart of the
fleet renders nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from edgevirt.fleet import render
from edgevirt.fleet.configs import lineage
from edgevirt.fleet.configs.lineage import CONFIG_VERSION, NONE_YET, ConfigVersion
from edgevirt.fleet.configs.objects import KINDS, ConfigObjects
from edgevirt.fleet.configs.sealed import SealedConfigs
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.devices import device_key
from edgevirt.fleet.nodes.registry import NO_HASH, Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.render import Objects, Rendered
from edgevirt.fleet.transport.replies import NOT_MODIFIED, UNAVAILABLE, Response
from edgevirt.model.access import AccessConfig
from edgevirt.model.ids import NodeId
from edgevirt.runtime import ABSENT, Clock, Event, Gone, InStep, Kind, Resource, Store
from edgevirt.wire.convert import device as convert

_TICK: Final = 0.001
"""The least by which a config's time grows."""
_ATTEMPTS: Final = 5
_RENDERING: Final = 16
"""Nodes whose configs are made at the same time."""


class Grants(Protocol):
    """What people are let in for, beside what objects say."""

    def config_of(self, node: str, node_id: NodeId) -> AccessConfig | None:
        """`node`: the EdgeNode's key in the store."""
        ...

    def mark_of(self, node: str) -> bytes:
        """Changes when `config_of` does."""
        ...


OnRendered = Callable[[Objects, Rendered, ConfigVersion], Awaitable[None]]
_Kept = Resource[ConfigVersion]


class _Found(NamedTuple):
    """`rendered`: None where the digest alone told that nothing changed."""

    kept: _Kept
    rendered: Rendered | None

    @property
    def version(self) -> ConfigVersion:
        return self.kept.value


class Configs:
    """One per process. `in_step` is set when every kind has been seen as it is."""

    def __init__(
        self, store: Store, registry: Registry, ring: KeyRing, sealer: Sealer, clock: Clock
    ) -> None:
        self.in_step = asyncio.Event()
        self.dependencies = Dependencies()
        self._store = store
        self._registry = registry
        self._ring = ring
        self._clock = clock
        self._objects = ConfigObjects(store, registry, self.dependencies, ring, sealer)
        self._sealed = SealedConfigs(ring)
        self._behind = set(KINDS)
        self._finding: dict[tuple[int, bytes], asyncio.Task[_Found]] = {}
        self._room = asyncio.Semaphore(_RENDERING)
        self._listeners: list[OnRendered] = []
        self._held_listeners: list[OnRendered] = []
        self.grants: Grants | None = None
        ring.on_change(lambda _keys: registry.forget_config_hashes())

    def on_rendered(self, listener: OnRendered) -> None:
        """Called when a node's config became another one, before the node gets it."""
        self._listeners.append(listener)

    def on_held(self, listener: OnRendered) -> None:
        """Called whenever a node asks whose config is held back, with what it does not get."""
        self._held_listeners.append(listener)

    async def follow(self) -> None:
        """Never returns. EdgeNodes come through `take`, as others want to hear of them too."""
        async with asyncio.TaskGroup() as group:
            for kind in KINDS.values():
                if kind is not kinds.EDGE_NODE:
                    group.create_task(self._follow(kind))

    async def _follow(self, kind: Kind[Any]) -> None:
        events: AsyncIterator[Any] = self._store.watch(kind)
        async for event in events:
            self.take(kind.name, event)

    def take(self, kind: str, event: Event[Any]) -> None:
        if isinstance(event, InStep):
            self._behind.discard(kind)
            if not self._behind:
                self.in_step.set()
            return
        resource = event.resource
        if isinstance(event, Gone):
            nodes = self.dependencies.remove(kind, resource.key)
        else:
            nodes = self.dependencies.put(kind, resource.key, resource.value, resource.version)
        for edge_node in nodes:
            self.forget(edge_node)

    def forget(self, edge_node: str) -> None:
        """The node's config may have changed; `edge_node` is its key in the store."""
        row = self._registry.find_node(edge_node)
        if row >= 0:
            self._registry.set_config_hash(row, NO_HASH)

    async def answer(self, row: int, known: bytes) -> Response | None:
        """The sealed config of a machine; None when `known` is the hash of it."""
        found = await self._find(row, known)
        if found.version.held is not None:
            # one that has just started has the config of its disk, and takes no «unchanged» for it
            return NOT_MODIFIED if known else UNAVAILABLE
        if found.version.config_hash == known:
            return None
        sealed = self._sealed.find(row, found.version.config_hash)
        if sealed is not None:
            return sealed
        rendered = found.rendered or (await self._gather_and_render(row))[1]
        return self._sealed.seal(row, rendered.config, found.version)

    async def repair(self, row: int) -> Response | None:
        """For a machine that is barred: its refusal, with the system that is wanted for it and
        nothing else (`render.repair`); None when there is none to offer.
        """
        async with self._room:
            wanted = render.repair(await self._gather(row))
        if wanted is None:
            return None
        kept = await self._store.get(CONFIG_VERSION, device_key(self._registry.node(row)))
        least = kept.value.timestamp if kept is not None else 0.0
        timestamp = round(max(self._clock.now(), least), 3)
        return self._sealed.refuse(
            msgspec.structs.replace(wanted, version="repair", timestamp=timestamp)
        )

    # -- finding the hash --

    async def _find(self, row: int, known: bytes) -> _Found:
        """One search per machine and hash at a time, however often it asks."""
        asked = row, known
        task = self._finding.get(asked)
        if task is None:
            task = self._finding[asked] = asyncio.create_task(self._search(row, known))
            task.add_done_callback(lambda _task: self._finding.pop(asked, None))
        return await asyncio.shield(task)

    async def _search(self, row: int, known: bytes) -> _Found:
        async with self._room:
            kept = await self._judge(row, known)
            if kept is not None and kept.value.held is not None:
                self._registry.set_config_hash(row, NO_HASH)
                return await self._hold(row, kept)
            for _ in range(_ATTEMPTS):
                before = self._inputs(row)
                found = await self._look_up(row, before, kept)
                if self._inputs(row) == before:
                    self._registry.set_config_hash(row, found.version.config_hash)
                    return found
                kept = found.kept
            return found  # things change faster than we render: the next poll goes on

    async def _judge(self, row: int, known: bytes) -> _Kept | None:
        """Whether the node goes on from what this store knows. Before anything makes a number."""
        key = device_key(self._registry.node(row))
        kept = await self._store.get(CONFIG_VERSION, key)
        last = kept.value if kept is not None else NONE_YET
        judged = lineage.judge(last, known, self._clock.now())
        if judged.held is not None:
            node = await self._store.get(kinds.EDGE_NODE, self._registry.name(row))
            if node is not None and node.value.spec.overwrite_config == judged.held.mark:
                judged = lineage.let_go(judged)
        return kept if judged == last else await self._keep_version(row, judged, kept)

    async def _hold(self, row: int, kept: _Kept) -> _Found:
        objects, rendered = await self._gather_and_render(row)
        for listener in self._held_listeners:
            await listener(objects, rendered, kept.value)
        return _Found(kept, None)

    async def _keep_version(self, row: int, version: ConfigVersion, before: _Kept | None) -> _Kept:
        key = device_key(self._registry.node(row))
        expect = before.version if before is not None else ABSENT
        return await self._store.put(CONFIG_VERSION, key, version, expect=expect)

    def _inputs(self, row: int) -> bytes:
        return self.dependencies.digest_of(
            self._registry.name(row),
            self._registry.exchange(row),
            self._ring.keys.certs_hash.encode(),
            b"%d" % render.VERSION,
            self.grants.mark_of(self._registry.name(row)) if self.grants else b"",
        )

    async def _look_up(self, row: int, inputs: bytes, kept: _Kept | None) -> _Found:
        last = kept.value if kept is not None else None
        if kept is not None and kept.value.inputs == inputs:
            return _Found(kept, None)
        objects, rendered = await self._gather_and_render(row)
        content = _content(rendered)
        if last is not None and last.content == content:
            version = msgspec.structs.replace(last, inputs=inputs)
        else:
            version = self._next_version(rendered, last, content, inputs)
            for listener in self._listeners:
                await listener(objects, rendered, version)
        return _Found(await self._keep_version(row, version, kept), rendered)

    def _next_version(
        self, rendered: Rendered, last: ConfigVersion | None, content: bytes, inputs: bytes
    ) -> ConfigVersion:
        """Nodes refuse a config that is older than the one they have, so time never goes back."""
        now = self._clock.now()
        number, timestamp = 1, now
        if last is not None:
            number, timestamp = last.number + 1, max(now, last.timestamp + _TICK)
        timestamp = round(timestamp, 3)
        config_hash = lineage.make_hash(number, timestamp, content)
        return ConfigVersion(number, timestamp, config_hash, content, inputs)

    # -- rendering --

    async def _gather_and_render(self, row: int) -> tuple[Objects, Rendered]:
        objects = await self._gather(row)
        return objects, render.render(objects)

    async def _gather(self, row: int) -> Objects:
        objects = await self._objects.of_node(row)
        if self.grants is None:
            return objects
        access = self.grants.config_of(objects.node.key, objects.node_id)
        return dataclasses.replace(objects, access=access)


def _content(rendered: Rendered) -> bytes:
    """32 bytes; by the wire's form, since nodes see nothing else."""
    message = convert.to_message(rendered.config)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
