"""Reads and writes objects by Kubernetes' rules, on any Store. Knows no transport."""

from __future__ import annotations

import asyncio
import bisect
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies import drafts, managers
from edgevirt.fleet.api.bodies.drafts import Held, Options
from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.api.registry.admission import TERMS, Admission
from edgevirt.fleet.api.registry.deleting import Deleting
from edgevirt.fleet.api.registry.selectors import Selector
from edgevirt.fleet.api.registry.snapshots import Snapshots
from edgevirt.fleet.api.registry.stored import ATTEMPTS, StoredObjects
from edgevirt.fleet.api.registry.taking_up import take_up
from edgevirt.fleet.api.shapes.shapes import encode, shape_of
from edgevirt.fleet.objects.base.names import check_metadata
from edgevirt.fleet.objects.base.object import ApiObject, born, object_key
from edgevirt.fleet.objects.base.problems import NOT_FOUND, Problem
from edgevirt.fleet.objects.core.namespace import DEFAULT, Namespace
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.kinds import BY_NAME, NAMESPACE, ApiKind
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.store import ABSENT, Conflict, Store

Edit = Callable[[Json], Json]


@dataclass(frozen=True)
class Preconditions:
    """Of a deletion; empty: any."""

    uid: str = ""
    version: str = ""


@dataclass(frozen=True)
class Page:
    """A part of a list. `after`: the last key of it, when more follow. `remaining`: how many."""

    items: list[Held]
    version: int
    after: str = ""
    remaining: int | None = None


@dataclass(frozen=True)
class Deletion:
    """`held`: the object as it was last. `gone`: whether it is; if not, it waits for finalizers.
    `users`: what still uses it, in words.
    """

    held: Held
    gone: bool
    users: str = ""


class Registry:
    def __init__(self, store: Store, clock: Clock, sealer: Sealer) -> None:
        self.store = store
        self.clock = clock
        self.objects = StoredObjects(store, sealer)
        self._snapshots = Snapshots(store, TERMS)
        self._admission = Admission(self._snapshots)
        self._deleting = Deleting(store, self.objects, self._snapshots, self._admission, clock)
        self._writing = asyncio.Lock()

    # -- reading --

    async def get(self, kind: ApiKind[Any], namespace: str, name: str) -> Held:
        held = await self.objects.find(kind, namespace, name)
        if held is None:
            raise errors.not_found(kind, name)
        return held

    async def page(
        self,
        kind: ApiKind[Any],
        namespace: str | None,
        selector: Selector,
        *,
        limit: int = 0,
        after: str = "",
    ) -> Page:
        """Those that match, in the order of their keys, beyond `after`; 0: no limit."""
        snapshot = await self._snapshots.take(kind.store)
        keys = snapshot.within(namespace)
        if selector.name and (namespace or not kind.namespaced):
            only = object_key(namespace or "", selector.name)
            keys = [only] if only in snapshot.values else []
        items: list[Held] = []
        for index in range(bisect.bisect_right(keys, after), len(keys)):
            key = keys[index]
            held = self.objects.served(kind, snapshot.values[key])
            if not selector.matches(held.value):
                continue
            items.append(held)
            if limit and len(items) == limit and index + 1 < len(keys):
                remaining = len(keys) - index - 1 if selector.all else None
                return Page(items, snapshot.version, key, remaining)
        return Page(items, snapshot.version)

    async def born(self, kind: ApiKind[Any], key: str) -> int | None:
        """The version at which an object appeared; None when that is not known any more."""
        return (await self._snapshots.take(kind.store)).born.get(key)

    # -- writing --

    async def create(
        self, kind: ApiKind[Any], namespace: str, body: Json, options: Options
    ) -> Held:
        draft = drafts.read_draft(kind, namespace, body, options)
        meta = draft["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
        async with self._writing:
            name = meta.get("name", "")
            if name and await self.objects.find(kind, namespace, name) is not None:
                raise errors.already_exists(kind, name)
            return await self._create(kind, namespace, draft, options, None)

    async def replace(
        self, kind: ApiKind[Any], namespace: str, name: str, edit: Edit, options: Options
    ) -> Held:
        """`edit` makes the new body from the present one; it is called again when somebody else
        was faster."""
        async with self._writing:
            for _ in range(ATTEMPTS):
                held = await self.get(kind, namespace, name)
                draft = drafts.read_draft(kind, namespace, edit(held.body), options)
                self._check_identity(held, draft)
                new = drafts.successor(held, draft, options, self.clock.now(), None)
                try:
                    return await self._keep(held, new, options)
                except Conflict:
                    continue
        raise errors.conflict(kind, name, errors.CHANGED)

    async def apply(
        self, kind: ApiKind[Any], namespace: str, name: str, body: Json, options: Options
    ) -> tuple[Held, bool]:
        """Server-side apply; also tells whether the object is new."""
        draft = drafts.read_draft(kind, namespace, body, options)
        if draft["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        draft["metadata"].setdefault("name", name)
        if draft["metadata"]["name"] != name:
            raise errors.bad_request(drafts.mismatch("name", draft["metadata"]["name"], name))
        shape = shape_of(kind.type)
        writer = drafts.writer_of(kind, options, self.clock.now())
        async with self._writing:
            for _ in range(ATTEMPTS):
                held = await self.objects.find(kind, namespace, name)
                if held is None:
                    if options.subresource:
                        raise errors.not_found(kind, name)
                    done = managers.apply([], {}, draft, shape, writer, force=options.force)
                    draft = {**done.body, "metadata": dict(done.body["metadata"])}
                    new = await self._create(kind, namespace, draft, options, done.entries)
                    return new, True
                self._check_identity(held, draft)
                entries = managers.read(held.value.metadata.managed_fields)
                wanted = drafts.part_of(draft, options.subresource)
                live = encode(held.value)
                done = managers.apply(entries, live, wanted, shape, writer, force=options.force)
                try:
                    new_value = drafts.successor(
                        held, done.body, options, self.clock.now(), done.entries
                    )
                    return await self._keep(held, new_value, options), False
                except Conflict:
                    continue
        raise errors.conflict(kind, name, errors.CHANGED)

    async def delete(
        self,
        kind: ApiKind[Any],
        namespace: str,
        name: str,
        preconditions: Preconditions,
        *,
        dry_run: bool = False,
    ) -> Deletion:
        """What others use stays until the last of them is gone or uses something else."""
        async with self._writing:
            for _ in range(ATTEMPTS):
                held = await self.get(kind, namespace, name)
                self._check_preconditions(held, preconditions)
                self._check_deletable(held)
                users = await self._admission.users_of(held.kind, held.value)
                words = ", ".join(f'{user} "{its}" ({field})' for user, its, field in users)
                if dry_run:
                    return Deletion(held, not (users or held.value.metadata.finalizers), words)
                try:
                    return Deletion(*await self._deleting.delete(held, used=bool(users)), words)
                except Conflict:
                    continue
        raise errors.conflict(kind, name, errors.CHANGED)

    async def start(self) -> None:
        """Makes the default namespace, and finishes deletions that a stop interrupted."""
        if await self.store.get(NAMESPACE, DEFAULT) is None:
            namespace = Namespace(metadata=born(DEFAULT, "", self.clock.now()))
            await self.store.put(NAMESPACE, DEFAULT, namespace)
        async with self._writing:
            await self._deleting.finish()

    async def _create(
        self,
        kind: ApiKind[Any],
        namespace: str,
        draft: Json,
        options: Options,
        entries: list[managers.Entry] | None,
    ) -> Held:
        await self._check_namespace(kind, namespace, draft["metadata"].get("name", ""))
        value = drafts.newborn(kind, draft, options, self.clock.now(), entries)
        value, words = await take_up(self.store, self._snapshots, kind, value)
        if words:
            options.warnings.append(words)
        await self._judge(kind, value, None, options)
        if options.dry_run:
            return Held(kind, value, 0)
        return await self.objects.put(kind, value, ABSENT)

    # -- judging --

    def _check_identity(self, held: Held, draft: Json) -> None:
        """That the writer means this very object, as it is now."""
        meta, present = draft["metadata"], held.value.metadata
        if meta.get("name", present.name) != present.name:
            raise errors.bad_request(drafts.mismatch("name", meta["name"], present.name))
        self._check_preconditions(
            held, Preconditions(meta.get("uid", ""), meta.get("resourceVersion", ""))
        )

    def _check_preconditions(self, held: Held, wanted: Preconditions) -> None:
        meta = held.value.metadata
        if wanted.uid and wanted.uid != meta.uid:
            why = f"Precondition failed: UID in precondition: {wanted.uid}, in object: {meta.uid}"
            raise errors.conflict(held.kind, meta.name, why)
        if wanted.version and wanted.version != str(held.version):
            raise errors.conflict(held.kind, meta.name, errors.CHANGED)

    async def _check_namespace(self, kind: ApiKind[Any], namespace: str, name: str) -> None:
        """That it exists, and will."""
        if not kind.namespaced:
            return
        found = await self.store.get(NAMESPACE, namespace)
        if found is None:
            raise errors.not_found(BY_NAME["Namespace"], namespace)
        if found.value.metadata.deletion_timestamp is not None:
            raise errors.forbidden(
                f'{errors.resource_name(kind)} "{name}" is forbidden: unable to create new content '
                f"in namespace {namespace} because it is being terminated"
            )

    async def _judge(
        self, kind: ApiKind[Any], value: ApiObject, old: ApiObject | None, options: Options
    ) -> None:
        problems = [*check_metadata(value.metadata, namespaced=kind.namespaced)]
        problems += kind.validate(value)
        if old is not None:
            problems += () if problems else kind.check_change(value, old)
            problems += drafts.check_change(kind, value, old)
        options.warnings += kind.warn(value, old)
        if not problems and (old is None or _means_more(value, old)):
            problems += await self._admission.judge(kind, value, old)
        if options.dry_run:
            # What it names may be part of the same dry run, and thus not there.
            options.warnings += [f"{p.field}: {p.message}" for p in problems if _is_dangling(p)]
            problems = [p for p in problems if not _is_dangling(p)]
        if problems:
            raise errors.invalid(kind, value.metadata.name, problems)

    def _check_deletable(self, held: Held) -> None:
        name = held.value.metadata.name
        if held.kind.name == "Namespace" and name == DEFAULT:
            raise errors.forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted'
            )

    # -- keeping --

    async def _keep(self, held: Held, value: ApiObject, options: Options) -> Held:
        """Puts the successor of `held`. Raises Conflict when somebody else was faster."""
        if value == held.value:
            return held
        if options.subresource != "status":
            await self._judge(held.kind, value, held.value, options)
        if options.dry_run:
            return Held(held.kind, value, held.version)
        meta = value.metadata
        if meta.deletion_timestamp and not meta.finalizers and held.kind.name != "Namespace":
            await self._deleting.remove(held)
            return Held(held.kind, value, held.version)
        kept = await self.objects.put(held.kind, value, held.version)
        await self._deleting.release_used(held.kind.name, held.value, value)
        return kept


def _means_more(value: ApiObject, old: ApiObject) -> bool:
    """Whether it may concern other objects that it became another one; by labels it is chosen."""
    if value.metadata.labels != old.metadata.labels:
        return True
    return drafts.intent(encode(value)) != drafts.intent(encode(old))


def _is_dangling(problem: Problem) -> bool:
    return problem.reason == NOT_FOUND
