"""Objects as the store has them and as they are served: two forms of one."""

from __future__ import annotations

from typing import Any, Final

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies.drafts import Held
from edgevirt.fleet.objects.base.object import ApiObject, object_key
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.kinds import ApiKind
from edgevirt.runtime.resource import Resource
from edgevirt.runtime.store import ABSENT, Conflict, Store

ATTEMPTS: Final = 8
"""Tries of a write whose object others keep changing."""


class StoredObjects:
    """Secrets lie sealed; kinds with a view are stored in another shape."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    def served(self, kind: ApiKind[Any], resource: Resource[Any]) -> Held:
        """What is stored as it is served."""
        value = resource.value
        if kind.name == "Secret":
            try:
                value = self._sealer.open(value)
            except ValueError as error:
                raise errors.ApiError(500, "InternalError", str(error)) from error
        if kind.view is not None:
            value = kind.view.outward(value)
        return Held(kind, value, resource.version)

    async def find(self, kind: ApiKind[Any], namespace: str, name: str) -> Held | None:
        resource = await self._store.get(kind.store, object_key(namespace, name))
        return None if resource is None else self.served(kind, resource)

    async def put(self, kind: ApiKind[Any], value: ApiObject, expect: int) -> Held:
        """`expect`: the version that is there, or ABSENT. Raises Conflict when another one is, and
        ApiError when there should be none.
        """
        stored: Any = kind.view.inward(value) if kind.view else value
        if kind.name == "Secret":
            stored = self._sealer.seal(stored)
        try:
            resource = await self._store.put(kind.store, value.key, stored, expect=expect)
        except Conflict:
            if expect == ABSENT:
                raise errors.already_exists(kind, value.metadata.name) from None
            raise
        return Held(kind, value, resource.version)
