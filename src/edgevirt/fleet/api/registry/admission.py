"""Whether an object may be, given the others: the only place where intent is judged as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from edgevirt.fleet.api.registry.snapshots import Snapshot, Snapshots, TermsOf
from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import ApiObject, object_key
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, not_found
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.kinds import (
    APP,
    APP_INSTANCE,
    ATTESTATION_POLICY,
    BY_NAME,
    EDGE_NODE,
    HARDWARE_MODEL,
    NETWORK_INSTANCE,
    OS_IMAGE,
    VOLUME,
    ApiKind,
)
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import HardwareModel
from edgevirt.fleet.objects.project import conflicts
from edgevirt.fleet.objects.project.project import Project
from edgevirt.fleet.objects.project.references import USERS, references_of
from edgevirt.fleet.objects.software.attestation import AttestationPolicy, policies_for

T = TypeVar("T", bound=ApiObject)


class Admission:
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def judge(
        self, kind: ApiKind[Any], value: ApiObject, old: ApiObject | None = None
    ) -> list[Problem]:
        """What keeps `value`, which is valid by itself, from being among the others. `old`: what it
        was; it may go on to use what is being deleted.
        """
        problems = [p async for p in self._dangling(kind, value, old)]
        if problems:
            return problems
        if isinstance(value, EdgeNode):
            problems = [p async for p in self._serials(value)]
            problems += [p async for p in self._os_of(value)]
            return problems + [p async for p in self._policies_of(value)]
        if isinstance(value, AttestationPolicy):
            return [p async for p in self._other_policies(value)]
        check = _CHECKS.get(kind.name)
        if check is None:
            return []
        project = await self._project(value)
        return list(check(value, project))

    async def users_of(self, kind: ApiKind[Any], value: ApiObject) -> list[tuple[str, str, str]]:
        """(kind, name, field) of every object that names this one."""
        users = []
        meta = value.metadata
        for user in USERS.get(kind.name, ()):
            snapshot = await self._snapshots.take(BY_NAME[user].store)
            for resource in snapshot.with_term(_naming(meta.namespace, kind.name, meta.name)):
                users += [
                    (user, resource.value.metadata.name, ref.field)
                    for ref in references_of(user, resource.value)
                    if (ref.kind, ref.name) == (kind.name, meta.name)
                ]
        return users

    async def _dangling(
        self, kind: ApiKind[Any], value: ApiObject, old: ApiObject | None
    ) -> AsyncIterator[Problem]:
        before = references_of(kind.name, old) if old is not None else ()
        used = {(ref.kind, ref.name) for ref in before}
        for ref in references_of(kind.name, value):
            target = BY_NAME[ref.kind]
            snapshot = await self._snapshots.take(target.store)
            found = snapshot.values.get(object_key(value.metadata.namespace, ref.name))
            where = f"namespace {value.metadata.namespace!r}"
            if found is None:
                hint = f"there is no {ref.kind} of this name in {where}; create it first"
                yield not_found(ref.field, ref.name, hint)
            elif (ref.kind, ref.name) in used:
                continue
            elif found.value.metadata.deletion_timestamp is not None:
                yield not_found(ref.field, ref.name, f"this {ref.kind} is being deleted")

    async def _serials(self, value: Any) -> AsyncIterator[Problem]:
        """No two nodes of a project may be one machine."""
        snapshot = await self._snapshots.take(EDGE_NODE)
        meta = value.metadata
        for field, serial in (
            ("spec.serial", value.spec.serial),
            ("spec.softSerial", value.spec.soft_serial),
        ):
            for resource in snapshot.with_term(_naming(meta.namespace, field, serial)):
                other = resource.value.metadata.name
                if serial and other != meta.name:
                    yield duplicate(field, serial, f'it is the serial of EdgeNode "{other}"')

    async def _os_of(self, node: EdgeNode) -> AsyncIterator[Problem]:
        """A version for other machines would be fetched, and refused there."""
        wanted, has = node.spec.os, node.status.architecture
        if wanted is None or not has:
            return
        key = object_key(node.metadata.namespace, wanted.image)
        image = (await self._snapshots.take(OS_IMAGE)).values.get(key)
        needs = image.value.spec.architecture if image is not None else ""
        if needs and needs != has:
            why = f"it is for {needs}, and the node is {has}"
            yield invalid("spec.os.image", wanted.image, why)

    async def _policies_of(self, node: EdgeNode) -> AsyncIterator[Problem]:
        """A node must know which policy judges it."""
        meta = node.metadata
        policies = (await self._snapshots.take(ATTESTATION_POLICY)).of(meta.namespace)
        found = policies_for((p.value for p in policies), meta.labels)
        if len(found) > 1:
            names = " and ".join(f'"{policy.metadata.name}"' for policy in found)
            why = f"AttestationPolicies {names} would both pick the node"
            yield invalid("metadata.labels", meta.labels, why)

    async def _other_policies(self, policy: AttestationPolicy) -> AsyncIterator[Problem]:
        """One default for a project, and no node that two policies pick."""
        meta, field = policy.metadata, "spec.nodeSelector"
        present = (await self._snapshots.take(ATTESTATION_POLICY)).of(meta.namespace)
        others = [p.value for p in present if p.value.metadata.name != meta.name]
        if policy.spec.node_selector is None:
            for other in others:
                if other.spec.node_selector is None:
                    why = f'AttestationPolicy "{other.metadata.name}" is the default of the project'
                    yield duplicate(field, None, f"{why}: select nodes by labels")
            return
        for resource in (await self._snapshots.take(EDGE_NODE)).of(meta.namespace):
            node = resource.value.metadata
            for other in others:
                if policy.picks(node.labels) and other.picks(node.labels):
                    why = f'AttestationPolicy "{other.metadata.name}" picks EdgeNode "{node.name}"'
                    yield duplicate(field, policy.spec.node_selector.match_labels, f"{why} too")
                    return

    async def _project(self, value: ApiObject) -> Project:
        """`value`, and of its namespace what it has to do with."""
        apps = _Table(await self._snapshots.take(APP), value, App)
        instances = _Table(await self._snapshots.take(APP_INSTANCE), value, AppInstance)
        networks = _Table(await self._snapshots.take(NETWORK_INSTANCE), value, NetworkInstance)
        found = _around(value, apps, instances, networks)
        volumes = _Table(await self._snapshots.take(VOLUME), value, Volume)
        nodes = _Table(await self._snapshots.take(EDGE_NODE), value, EdgeNode)
        models = _Table(await self._snapshots.take(HARDWARE_MODEL), value, HardwareModel)
        there = nodes.named({instance.spec.edge_node for instance in found.instances.values()})
        return replace(
            found,
            volumes=volumes.named(n for app in found.apps.values() for n in app.named_volumes),
            nodes=there,
            models=models.named({node.spec.hardware_model for node in there.values()}),
        )


def _around(
    value: ApiObject,
    apps: _Table[App],
    instances: _Table[AppInstance],
    networks: _Table[NetworkInstance],
) -> Project:
    """All that is on the nodes that `value` touches."""
    touched: dict[str, App] = {}
    if isinstance(value, App):
        touched[value.metadata.name] = value
    elif isinstance(value, NetworkInstance):
        touched |= apps.naming("NetworkInstance", value.metadata.name)
    nodes = {
        instance.spec.edge_node
        for name in touched
        for instance in instances.naming("App", name).values()
    }
    if isinstance(value, AppInstance):
        nodes.add(value.spec.edge_node)
    placed: dict[str, AppInstance] = {}
    for node in nodes:
        placed |= instances.naming("EdgeNode", node)
    touched |= apps.named({instance.spec.app for instance in placed.values()})
    used = {i.network_instance for app in touched.values() for i in app.spec.interfaces}
    return Project(touched, placed, networks.named(used))


class _Table(Generic[T]):
    """The objects of one kind in the namespace of `value`, with `value` among them."""

    def __init__(self, snapshot: Snapshot, value: ApiObject, type: type[T]) -> None:
        self._snapshot = snapshot
        self._namespace = value.metadata.namespace
        self._value = value if isinstance(value, type) else None

    def named(self, names: Iterable[str]) -> dict[str, T]:
        keys = [object_key(self._namespace, name) for name in names]
        found = {key: self._snapshot.values.get(key) for key in keys}
        return self._with_value(
            {r.value.metadata.name: r.value for r in found.values() if r is not None}
        )

    def naming(self, kind: str, name: str) -> dict[str, T]:
        """Those that refer to an object."""
        marked = self._snapshot.with_term(_naming(self._namespace, kind, name))
        found = self._with_value({r.value.metadata.name: r.value for r in marked})
        return {
            key: value
            for key, value in found.items()
            if value is not self._value or _names(value, kind, name)
        }

    def _with_value(self, found: dict[str, T]) -> dict[str, T]:
        if self._value is not None:
            found[self._value.metadata.name] = self._value
        return found


def _names(value: ApiObject, kind: str, name: str) -> bool:
    refs = references_of(type(value).__name__, value)
    return any((ref.kind, ref.name) == (kind, name) for ref in refs)


def _naming(namespace: str, kind: str, name: str) -> str:
    return f"{namespace}/{kind}/{name}"


def _terms_of(kind: str) -> TermsOf:
    def terms(value: ApiObject) -> Iterator[str]:
        namespace = value.metadata.namespace
        for name in {(ref.kind, ref.name) for ref in references_of(kind, value)}:
            yield _naming(namespace, *name)
        if isinstance(value, EdgeNode):
            yield _naming(namespace, "spec.serial", value.spec.serial)
            yield _naming(namespace, "spec.softSerial", value.spec.soft_serial)

    return terms


TERMS: dict[str, TermsOf] = {
    kind: _terms_of(kind) for kind in {user for users in USERS.values() for user in users}
}
"""How the kinds that refer to others are found by what they refer to."""

_CHECKS: dict[str, Callable[[Any, Project], Iterator[Problem]]] = {
    "AppInstance": conflicts.check_instance,
    "App": conflicts.check_app,
    "NetworkInstance": conflicts.check_network,
}
