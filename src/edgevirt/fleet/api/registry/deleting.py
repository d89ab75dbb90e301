"""How objects go: what others use stays until the last of them is gone or uses something else,
and a namespace goes with all that is in it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgevirt.fleet.api.bodies import drafts
from edgevirt.fleet.api.bodies.drafts import Held
from edgevirt.fleet.api.registry.admission import Admission
from edgevirt.fleet.api.registry.snapshots import Snapshots
from edgevirt.fleet.api.registry.stored import ATTEMPTS, StoredObjects
from edgevirt.fleet.objects.base.object import ApiObject, object_key, timestamp
from edgevirt.fleet.objects.core.namespace import NamespaceStatus
from edgevirt.fleet.objects.kinds import BY_NAME, NAMESPACE
from edgevirt.fleet.objects.project.references import DELETION_ORDER, references_of
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.store import Conflict, Store

_IN_USE: Final = "edgevirt.io/in-use"
"""The finalizer of what is to be deleted and still used; the server takes it off with the last
user."""


class Deleting:
    """Called by who alone writes at the time. Raises Conflict when the store is changed otherwise
    meanwhile.
    """

    def __init__(
        self,
        store: Store,
        objects: StoredObjects,
        snapshots: Snapshots,
        admission: Admission,
        clock: Clock,
    ) -> None:
        self._store = store
        self._objects = objects
        self._snapshots = snapshots
        self._admission = admission
        self._clock = clock

    async def finish(self) -> None:
        """What a stop interrupted."""
        for name in DELETION_ORDER:
            for resource in (await self._snapshots.take(BY_NAME[name].store)).of(None):
                if _IN_USE in resource.value.metadata.finalizers:
                    await self._release(name, resource.key)
        for key, resource in (await self._store.list(NAMESPACE)).items():
            if resource.value.metadata.deletion_timestamp is not None:
                await self._empty(key)

    async def delete(self, held: Held, *, used: bool) -> tuple[Held, bool]:
        """The object as it is then, and whether it is gone. `used`: by others."""
        if held.kind.name == "Namespace":
            return await self._delete_namespace(held)
        meta = held.value.metadata
        if not used and not meta.finalizers:
            await self.remove(held)
            return held, True
        if meta.deletion_timestamp is not None:
            return held, False
        doomed = self._doomed(held.value, used=used)
        return await self._objects.put(held.kind, doomed, held.version), False

    async def remove(self, held: Held) -> None:
        """Deletes for good; the last one out of a namespace that is going closes the door."""
        await self._store.delete(held.kind.store, held.value.key, expect=held.version)
        await self.release_used(held.kind.name, held.value, None)
        if not held.kind.namespaced:
            return
        namespace = held.value.metadata.namespace
        place = await self._store.get(NAMESPACE, namespace)
        if place is not None and place.value.metadata.deletion_timestamp is not None:
            await self._empty(namespace)

    async def release_used(self, kind: str, old: ApiObject, new: ApiObject | None) -> None:
        """What `old` used and `new` does not may go, if it only waited for that."""
        left = references_of(kind, new) if new is not None else ()
        kept = {(ref.kind, ref.name) for ref in left}
        for used, name in {(ref.kind, ref.name) for ref in references_of(kind, old)} - kept:
            await self._release(used, object_key(old.metadata.namespace, name))

    async def _release(self, name: str, key: str) -> None:
        """Takes _IN_USE off what is used no more; with the last finalizer the object goes."""
        kind = BY_NAME[name]
        for _ in range(ATTEMPTS):
            resource = await self._store.get(kind.store, key)
            if resource is None or _IN_USE not in resource.value.metadata.finalizers:
                return
            held = self._objects.served(kind, resource)
            if await self._admission.users_of(kind, held.value):
                return
            left = tuple(f for f in held.value.metadata.finalizers if f != _IN_USE)
            try:
                if left:
                    freed = drafts.with_meta(held.value, finalizers=left)
                    await self._objects.put(kind, freed, held.version)
                else:
                    await self.remove(held)
            except Conflict:
                continue
            return

    async def _delete_namespace(self, held: Held) -> tuple[Held, bool]:
        if held.value.metadata.deletion_timestamp is None:
            doomed = msgspec.structs.replace(
                self._doomed(held.value), status=NamespaceStatus(phase="Terminating")
            )
            held = await self._objects.put(held.kind, doomed, held.version)
        return held, await self._empty(held.value.metadata.name)

    async def _empty(self, namespace: str) -> bool:
        """Deletes all objects of a doomed namespace, users first, then itself; False while some
        wait for their finalizers."""
        left = 0
        for name in DELETION_ORDER:
            kind = BY_NAME[name]
            for resource in tuple((await self._snapshots.take(kind.store)).of(namespace)):
                held = self._objects.served(kind, resource)
                meta = held.value.metadata
                used = bool(await self._admission.users_of(kind, held.value))
                if used or set(meta.finalizers) - {_IN_USE}:
                    left += 1
                    if meta.deletion_timestamp is None:
                        doomed = self._doomed(held.value, used=used)
                        await self._objects.put(kind, doomed, held.version)
                else:
                    await self._store.delete(kind.store, resource.key)
        if left:
            return False
        await self._store.delete(NAMESPACE, namespace)
        return True

    def _doomed(self, value: ApiObject, *, used: bool = False) -> ApiObject:
        finalizers = value.metadata.finalizers
        return drafts.with_meta(
            value,
            finalizers=(*finalizers, _IN_USE) if used and _IN_USE not in finalizers else finalizers,
            deletion_timestamp=timestamp(self._clock.now()),
            deletion_grace_period_seconds=0,
            generation=value.metadata.generation + 1,
        )
