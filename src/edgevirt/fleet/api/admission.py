"""Whether an object may be, given the others: the only place where intent is judged as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from edgevirt.fleet.api.snapshots import Snapshots
from edgevirt.fleet.objects import conflicts
from edgevirt.fleet.objects.base import ApiObject, object_key
from edgevirt.fleet.objects.edgenode import EdgeNode
from edgevirt.fleet.objects.kinds import (
    APP,
    APP_INSTANCE,
    BY_NAME,
    EDGE_NODE,
    NETWORK_INSTANCE,
    ApiKind,
)
from edgevirt.fleet.objects.problems import Problem, duplicate, not_found
from edgevirt.fleet.objects.references import USERS, references_of
from edgevirt.runtime.resource import Kind


class Admission:
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def judge(self, kind: ApiKind[Any], value: ApiObject) -> list[Problem]:
        """What keeps `value`, which is valid by itself, from being among the others."""
        problems = [p async for p in self._dangling(kind, value)]
        if problems:
            return problems
        if kind.name == "EdgeNode":
            return [p async for p in self._serials(value)]
        check = _CHECKS.get(kind.name)
        if check is None:
            return []
        project = await self._project(kind, value)
        return list(check(value, project))

    async def users_of(self, kind: ApiKind[Any], value: ApiObject) -> list[tuple[str, str, str]]:
        """(kind, name, field) of every object that names this one."""
        users = []
        meta = value.metadata
        for user in USERS.get(kind.name, ()):
            snapshot = await self._snapshots.take(BY_NAME[user].store)
            for resource in snapshot.of(meta.namespace):
                users += [
                    (user, resource.value.metadata.name, ref.field)
                    for ref in references_of(user, resource.value)
                    if (ref.kind, ref.name) == (kind.name, meta.name)
                ]
        return users

    async def _dangling(self, kind: ApiKind[Any], value: ApiObject) -> AsyncIterator[Problem]:
        for ref in references_of(kind.name, value):
            target = BY_NAME[ref.kind]
            snapshot = await self._snapshots.take(target.store)
            found = snapshot.values.get(object_key(value.metadata.namespace, ref.name))
            where = f"namespace {value.metadata.namespace!r}"
            if found is None:
                hint = f"there is no {ref.kind} of this name in {where}; create it first"
                yield not_found(ref.field, ref.name, hint)
            elif found.value.metadata.deletion_timestamp is not None:
                yield not_found(ref.field, ref.name, f"this {ref.kind} is being deleted")

    async def _serials(self, value: Any) -> AsyncIterator[Problem]:
        """No two nodes of a project may be one machine."""
        snapshot = await self._snapshots.take(EDGE_NODE)
        for resource in snapshot.of(value.metadata.namespace):
            other: EdgeNode = resource.value
            if other.metadata.name == value.metadata.name:
                continue
            for field, mine, its in (
                ("spec.serial", value.spec.serial, other.spec.serial),
                ("spec.softSerial", value.spec.soft_serial, other.spec.soft_serial),
            ):
                if mine and mine == its:
                    why = f'it is the serial of EdgeNode "{other.metadata.name}"'
                    yield duplicate(field, mine, why)

    async def _project(self, kind: ApiKind[Any], value: ApiObject) -> conflicts.Project:
        """The namespace with `value` in it."""
        namespace = value.metadata.namespace

        async def named(of: Kind[Any]) -> dict[str, Any]:
            snapshot = await self._snapshots.take(of)
            found = {r.value.metadata.name: r.value for r in snapshot.of(namespace)}
            return {**found, value.metadata.name: value} if of == kind.store else found

        return conflicts.Project(
            apps=await named(APP),
            instances=await named(APP_INSTANCE),
            networks=await named(NETWORK_INSTANCE),
        )


_CHECKS: dict[str, Callable[[Any, conflicts.Project], Iterator[Problem]]] = {
    "AppInstance": conflicts.check_instance,
    "App": conflicts.check_app,
    "NetworkInstance": conflicts.check_network,
}
