"""What each route does: decode, call the registry, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from edgevirt.fleet.api import errors, presenting, queries
from edgevirt.fleet.api.bodies import bodies, patches
from edgevirt.fleet.api.bodies.drafts import Held, Options
from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.api.presenting import Accepted, Presenter
from edgevirt.fleet.api.registry import watching
from edgevirt.fleet.api.registry.registry import Deletion, Edit, Preconditions, Registry
from edgevirt.fleet.objects.kinds import ApiKind
from edgevirt.fleet.operators.roles import Action, User

APPROVAL_FIELDS = frozenset({"approved", "nodeName", "nodeLabels"})
"""What `/approval` may change of an EnrollmentRequest's spec."""


@dataclass(frozen=True)
class Call:
    """One request about objects of one kind, by somebody who may."""

    request: Request
    registry: Registry
    stop: asyncio.Event
    user: User
    kind: ApiKind[Any]
    action: Action

    @property
    def namespace(self) -> str:
        return self.action.namespace

    @property
    def scope(self) -> str | None:
        """Of a list: a namespace, or None for all."""
        return self.action.namespace or None

    @property
    def name(self) -> str:
        return self.action.name

    @property
    def accepted(self) -> Accepted:
        return presenting.negotiate(self.request.headers.get("accept", ""))

    def presenter(self) -> Presenter:
        include = queries.include_object(self.request.query_params)
        return Presenter(self.kind, self.accepted.form, self.registry.clock.now(), include)

    def options(self) -> Options:
        agent = self.request.headers.get("user-agent", "")
        query = self.request.query_params
        return queries.write_options(query, self.user, agent, self.action.subresource)

    async def body(self, media: str) -> Any:
        return bodies.parse(await read_body(self.request), media)

    def answer(self, held: Held, options: Options, code: int = 200) -> Response:
        body = self.presenter().one(held)
        return presenting.respond(body, self.accepted, code, options.warnings)


Handler = Callable[[Call], Awaitable[Response]]


async def read_body(request: Request) -> bytes:
    """The body, bounded in size and time. Raises ApiError."""
    too_large = errors.too_large(bodies.MAX_BYTES)
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > bodies.MAX_BYTES:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(bodies.MAX_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > bodies.MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise errors.too_slow(bodies.MAX_SECONDS) from None
    except ClientDisconnect:
        raise errors.bad_request("the client went away") from None
    return bytes(content)


# -- reading --


async def get(call: Call) -> Response:
    held = await call.registry.get(call.kind, call.namespace, call.name)
    return presenting.respond(call.presenter().one(held), call.accepted)


async def list_or_watch(call: Call) -> Response:
    if queries.flag(call.request.query_params, "watch"):
        return await watch(call)
    return await list_page(call)


async def list_page(call: Call) -> Response:
    query = call.request.query_params
    begun = queries.continue_of(query)
    page = await call.registry.page(
        call.kind,
        call.scope,
        queries.selector(query, call.kind),
        limit=queries.limit(query),
        after=begun.after if begun else "",
    )
    exact = query.get("resourceVersionMatch") == "Exact"
    if exact and queries.number(query, "resourceVersion") != page.version:
        raise errors.gone("only the present state is kept: list without resourceVersionMatch=Exact")
    # Later pages carry the first one's version: a watch from there tells all that they missed.
    version = begun.version if begun else page.version
    meta: Json = {"resourceVersion": str(version)}
    if page.after:
        meta["continue"] = queries.continue_token(version, page.after)
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
    return presenting.respond(call.presenter().many(page.items, meta), call.accepted)


async def watch(call: Call) -> Response:
    wanted = queries.wanted(call.request.query_params, call.kind, call.scope)
    presenter = call.presenter()
    watched = watching.Watching(call.registry, wanted, call.stop)
    await watched.start()

    async def lines() -> AsyncIterator[bytes]:
        async for change in watched.changes():
            if change.error is not None:
                yield watching.line(change.type, change.error.status())
            elif change.held is not None:
                yield watching.line(change.type, presenter.one(change.held))
            else:
                body = presenter.bookmark(watching.bookmark_body(call.kind, change))
                yield watching.line(change.type, body)

    return StreamingResponse(lines(), media_type="application/json")


# -- writing --


async def create(call: Call) -> Response:
    media = queries.require_media(call.request, bodies.OBJECTS, bodies.JSON)
    options = call.options()
    body = await call.body(media)
    held = await call.registry.create(call.kind, call.namespace, body, options)
    return call.answer(held, options, 201)


async def replace(call: Call) -> Response:
    media = queries.require_media(call.request, bodies.OBJECTS, bodies.JSON)
    options = call.options()
    edit = _narrowed(call, _always(await call.body(media)))
    held = await call.registry.replace(call.kind, call.namespace, call.name, edit, options)
    return call.answer(held, options)


async def patch(call: Call) -> Response:
    """Core kinds take strategic merge patches too; others refuse them, as custom resources do."""
    core = (patches.STRATEGIC,) if not call.kind.group else ()
    supported = (patches.MERGE, patches.JSON, patches.APPLY, *core)
    media = queries.require_media(call.request, supported)
    options = call.options()
    if media == patches.APPLY:
        return await _apply(call, options)
    change = await call.body(media)
    if media != patches.JSON and not isinstance(change, dict):
        raise errors.bad_request("cannot read the patch: it must be an object")
    edit = _narrowed(call, _patching(_PATCHES[media], change))
    held = await call.registry.replace(call.kind, call.namespace, call.name, edit, options)
    return call.answer(held, options)


_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    patches.MERGE: patches.merge,
    patches.JSON: patches.json_patch,
    patches.STRATEGIC: patches.strategic,
}


async def _apply(call: Call, options: Options) -> Response:
    if not call.request.query_params.get("fieldManager"):
        raise errors.bad_request("fieldManager is required for apply patch")
    if call.action.subresource == "approval":
        raise errors.unsupported_media(patches.APPLY, (patches.MERGE, patches.JSON))
    body = await call.body(patches.APPLY)
    held, new = await call.registry.apply(call.kind, call.namespace, call.name, body, options)
    return call.answer(held, options, 201 if new else 200)


def _always(body: Json) -> Edit:
    return lambda _present: body


def _patching(act: Callable[[Any, Any], Any], change: Any) -> Edit:
    def edit(present: Json) -> Json:
        result: Json = act(present, change)
        return result

    return edit


def _narrowed(call: Call, edit: Edit) -> Edit:
    """`edit`; of `/approval` only the answer to the EnrollmentRequest counts."""
    if call.action.subresource != "approval":
        return edit

    def narrowed(present: Json) -> Json:
        spec = edit(present).get("spec")
        if not isinstance(spec, dict):
            raise errors.bad_request("spec must be an object")
        answer = {key: spec[key] for key in APPROVAL_FIELDS if key in spec}
        rest = {k: v for k, v in present["spec"].items() if k not in APPROVAL_FIELDS}
        return {**present, "spec": {**rest, **answer}}

    return narrowed


# -- deleting --


async def delete(call: Call) -> Response:
    preconditions, dry = await _delete_options(call)
    deletion = await call.registry.delete(
        call.kind, call.namespace, call.name, preconditions, dry_run=dry
    )
    held = deletion.held
    if not deletion.gone or call.kind.name == "Namespace":
        body = call.presenter().one(held)
        return presenting.respond(body, call.accepted, warnings=_why_it_stays(call, deletion))
    details: Json = {"name": call.name, "kind": call.kind.plural, "uid": held.value.metadata.uid}
    if call.kind.group:
        details["group"] = call.kind.group
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }
    return presenting.respond(status, call.accepted)


def _why_it_stays(call: Call, deletion: Deletion) -> list[str]:
    if not deletion.users:
        return []
    what = f"{call.kind.singular}/{deletion.held.value.metadata.name}"
    return [f"{what} stays until it is used no more: it is in use by {deletion.users}"]


async def delete_all(call: Call) -> Response:
    preconditions, dry = await _delete_options(call)
    selector = queries.selector(call.request.query_params, call.kind)
    page = await call.registry.page(call.kind, call.scope, selector)
    done, warnings = [], []
    for item in page.items:
        meta = item.value.metadata
        try:
            deletion = await call.registry.delete(
                call.kind, meta.namespace, meta.name, preconditions, dry_run=dry
            )
        except errors.ApiError as error:
            if error.code != 404:
                raise
            continue
        done.append(deletion.held)
        warnings += _why_it_stays(call, deletion)
    meta_of_list: Json = {"resourceVersion": str(page.version)}
    body = call.presenter().many(done, meta_of_list)
    return presenting.respond(body, call.accepted, warnings=warnings)


async def _delete_options(call: Call) -> tuple[Preconditions, bool]:
    """From the body, which may be absent, and the query. Propagation policies are accepted and
    mean nothing: there are no dependents."""
    query = call.request.query_params
    raw = await read_body(call.request)
    if not raw.strip():
        return Preconditions(), queries.dry_run(query)
    body = bodies.parse(raw, queries.media_type(call.request) or bodies.JSON)
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be DeleteOptions")
    wanted = body.get("preconditions") or {}
    if not isinstance(wanted, dict):
        raise errors.bad_request("preconditions must be an object")
    dry = queries.dry_run(query) or "All" in (body.get("dryRun") or [])
    version = wanted.get("resourceVersion")
    return Preconditions(str(wanted.get("uid") or ""), str(version or "")), dry
