"""The operators' API as a Starlette app: each row of its table, for those who may use it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from edgevirt.fleet.api import discovery, errors, handlers, queries, reviews
from edgevirt.fleet.api.about import About, tell_version
from edgevirt.fleet.api.bodies import bodies
from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.handlers import Call, Handler
from edgevirt.fleet.api.presenting import accepted_by, respond, status_response
from edgevirt.fleet.api.registry.registry import Registry
from edgevirt.fleet.api.table import Row, Stream, Subresource, row_of, rows
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.kinds import SERVED, ApiKind
from edgevirt.fleet.operators.roles import Access, Action, User
from edgevirt.fleet.transport.websocket import CERTIFICATE
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.store import Store, StoreError

log = logging.getLogger("edgevirt.fleet.api")

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    store: Store,
    access: Access,
    clock: Clock,
    sealer: Sealer,
    *,
    extra: Iterable[Subresource] = (),
    streams: Iterable[Stream] = (),
) -> Starlette:
    """`app.state.api` is the Api; call `await api.start()` before serving (the lifespan does), and
    `api.stop()` to end all watches."""
    api = Api(store, access, clock, sealer, tuple(extra), tuple(streams))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await api.start()
        yield
        api.stop()

    app = Starlette(
        routes=list(api.routes()),
        lifespan=lifespan,
        exception_handlers={
            ApiError: _refuse,
            HTTPException: _refuse_http,
            StoreError: _refuse_store,
            Exception: _fail,
        },
    )
    app.router.redirect_slashes = False
    app.state.api = api
    return app


class Api:
    def __init__(
        self,
        store: Store,
        access: Access,
        clock: Clock,
        sealer: Sealer,
        extra: tuple[Subresource, ...],
        streams: tuple[Stream, ...] = (),
    ) -> None:
        self.registry = Registry(store, clock, sealer)
        self._access = access
        self._extra = extra
        self._streams = streams
        self._stop = asyncio.Event()
        known = [*((e.kind, e.name) for e in extra), *((s.kind, s.name) for s in streams)]
        self._about = About(discovery.served(known))

    async def start(self) -> None:
        await self.registry.start()

    def stop(self) -> None:
        """Ends all watches, so that the server can stop."""
        self._stop.set()

    def routes(self) -> Iterator[BaseRoute]:
        for path in ("/healthz", "/livez", "/readyz"):
            yield Route(path, _healthy)
        yield Route("/version", tell_version)
        for path, answer in self._about.answers():
            yield Route(path, self._known(answer))
        for resource in discovery.REVIEWS:
            path = f"/apis/{resource.group_version}/{resource.plural}"
            yield Route(path, self._review(resource), methods=["POST"])
        for kind in SERVED:
            for row in rows(kind):
                yield Route(row.path, self._endpoint(kind, row), methods=list(row.methods))
        for subresource in self._extra:
            yield self._extra_route(subresource)
        for stream in self._streams:
            yield self._stream_route(stream)

    # -- who asks --

    def _user(self, request: HTTPConnection) -> User:
        if any(name.lower().startswith("impersonate-") for name in request.headers):
            raise errors.forbidden("cannot act as another user: impersonation is not served")
        header = request.headers.get("authorization")
        user = self._access.authenticate(header, request.scope.get(CERTIFICATE))
        if user is None:
            raise errors.unauthorized()
        return user

    def _require(self, user: User, action: Action) -> None:
        if not self._access.allows(user, action):
            group = f".{action.group}" if action.group else ""
            what = f"{action.resource}{group}" + (f' "{action.name}"' if action.name else "")
            raise errors.forbidden(f"{what} is forbidden: {reviews.refusal(user, action)}")

    # -- objects --

    def _endpoint(self, kind: ApiKind[Any], row: Row) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            verb, handler = row.methods[method]
            if verb == "list" and queries.flag(request.query_params, "watch"):
                verb = "watch"
            user = self._user(request)
            action = _action(kind, verb, request, row.subresource)
            self._require(user, action)
            call = Call(request, self.registry, self._stop, user, kind, action)
            if method == "GET":
                return await handler(call)
            return await self._audited(call, handler)

        return endpoint

    async def _audited(self, call: Call, handler: Handler) -> Response:
        """Says in the log who changed what."""
        code = 500
        try:
            response = await handler(call)
            code = response.status_code
        except ApiError as error:
            code = error.code
            raise
        finally:
            action = call.action
            what = "/".join(part for part in (action.resource, action.subresource) if part)
            place = "/".join(part for part in (action.namespace, action.name) if part)
            shown = place if place.isprintable() else repr(place)
            log.info("%s %s %s %s: %d", call.user.name, action.verb, what, shown, code)
        return response

    def _extra_route(self, extra: Subresource) -> Route:
        kind, row = row_of(extra.kind)

        async def endpoint(request: Request) -> Response:
            user = self._user(request)
            action = _action(kind, "get", request, extra.name)
            self._require(user, action)
            held = await self.registry.get(kind, action.namespace, action.name)
            return await extra.answer(request, held.value)

        return Route(f"{row.path}/{extra.name}", endpoint, methods=["GET"])

    def _stream_route(self, stream: Stream) -> WebSocketRoute:
        kind, row = row_of(stream.kind)

        async def endpoint(socket: WebSocket) -> None:
            try:
                user = self._user(socket)
                action = _action(kind, "create", socket, stream.name)
                self._require(user, action)
                held = await self.registry.get(kind, action.namespace, action.name)
                await stream.answer(socket, held.value, user)
            except ApiError as error:
                await socket.send_denial_response(status_response(error))

        return WebSocketRoute(f"{row.path}/{stream.name}", endpoint)

    def _known(self, answer: Callable[[Request], Response]) -> Endpoint:
        """For any user."""

        async def endpoint(request: Request) -> Response:
            self._user(request)
            return answer(request)

        return endpoint

    def _review(self, resource: discovery.Served) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            user = self._user(request)
            media = queries.require_media(request, bodies.OBJECTS, bodies.JSON)
            body = bodies.parse(await handlers.read_body(request), media)
            answer = reviews.review(resource.plural, body, user, self._access)
            return respond(answer, accepted_by(request), 201)

        return endpoint


def _action(kind: ApiKind[Any], verb: str, request: HTTPConnection, subresource: str) -> Action:
    return Action(
        verb=verb,
        group=kind.group,
        resource=kind.plural,
        subresource=subresource,
        namespace=request.path_params.get("namespace", ""),
        name=request.path_params.get("name", ""),
    )


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return status_response(error)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return status_response(errors.wrong_method(request.method))
    return status_response(errors.unknown_path())


async def _refuse_store(_request: Request, error: Exception) -> Response:
    log.error("cannot answer: %s", error)
    why = f"cannot answer now: {error}"
    return status_response(ApiError(503, "ServiceUnavailable", why, headers={"Retry-After": "1"}))


async def _fail(_request: Request, _error: Exception) -> Response:
    """A bug: Starlette raises the exception again, so that the server logs it."""
    why = "cannot answer: an internal error, see the fleet's log"
    return status_response(ApiError(500, "InternalError", why))
