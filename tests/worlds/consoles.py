"""Both ends of consoles in one process: the fleet's two doors, a person, and a node's session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from edgevirt.fleet.api import create_app, serve
from edgevirt.fleet.consoles import Dispatcher
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app.app import App, AppSpec
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceSpec, AppInstanceStatus
from edgevirt.fleet.objects.base.object import ApiObject, ObjectMeta
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec, EdgeNodeStatus
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.roles import ADMINS, PROJECT, VIEWERS, User
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.http import HttpServer
from edgevirt.fleet.transport.replies import Reply, Request
from edgevirt.fleet.transport.tls import make_tls_context
from edgevirt.fleet.transport.upgrade import Upgrades
from edgevirt.host.door import DoorError
from edgevirt.model.access import ConsoleGrant, ConsoleWish
from edgevirt.model.ids import NodeId
from edgevirt.node.access.session import Session
from edgevirt.runtime import Kind, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import access
from edgevirt.wire.access import Data, End, Line, Role

NODE_ID = NodeId("11111111-2222-3333-4444-555555555555")
NODE = "default/edge-1"
PROJECT_PATH = "/apis/edgevirt.io/v1alpha1/namespaces/default/appinstances"


def meta(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, namespace="default", uid=f"uid-of-{name}")


class Silent:
    """What the nodes' front door answers besides."""

    def body_limit(self, path: bytes) -> int:
        return 1_000

    def handle_all(self, asked: Sequence[Request]) -> list[Reply]:
        return [replies.NOT_FOUND for _ in asked]


@dataclass
class Person:
    """At a session, from the first word on. `said`: what the fleet told."""

    socket: ClientConnection
    line: Line | None = None
    key: bytes = b""
    said: list[str] = field(default_factory=list)

    async def hears(self) -> dict[str, Any]:
        """The fleet's next word."""
        told: dict[str, Any] = json.loads(await self.socket.recv())
        if "key" in told:
            self.key = access.read_key(told["key"])
        self.said.append(told.get("say", ""))
        return told

    async def hears_until(self, what: str) -> Any:
        async with asyncio.timeout(10):
            while what not in (told := await self.hears()):
                pass
        return told[what]

    async def greets(self) -> None:
        await self.hears_until("open")
        self.line = Line(Role.OPERATOR, self.key, os.urandom(access.SECRET_SIZE))
        await self.socket.send(self.line.hello)
        self.line.hear(await self.next())

    async def next(self) -> bytes:
        message = await self.socket.recv()
        assert isinstance(message, bytes)
        return message

    async def types(self, data: bytes) -> None:
        assert self.line is not None
        await self.socket.send(self.line.say(Data(data)))

    async def reads(self) -> Data | End:
        assert self.line is not None
        said = self.line.hear(await self.next())
        assert said is not None
        return said


@dataclass
class ConsolesWorld:
    """`consoles`: the guests' ends of those that the node handed out."""

    clock: VirtualClock
    store: MemoryStore
    dispatcher: Dispatcher
    ring: KeyRing
    tokens: Tokens
    operators: int = 0
    nodes: int = 0
    changed: list[str] = field(default_factory=list)
    consoles: list[socket.socket] = field(default_factory=list)
    refusing: str = ""
    """Why the node's door hands nothing out."""

    async def add(self, kind: Kind[Any], value: ApiObject) -> None:
        await self.store.put(kind, value.key, value)

    async def set_state(self, state: str, **spec: Any) -> None:
        status = AppInstanceStatus(state=state)
        where = AppInstanceSpec(app="guest", edge_node="edge-1")
        instance = AppInstance(metadata=meta("guest"), spec=where, status=status)
        await self.add(kinds.APP_INSTANCE, instance)
        app = AppSpec(**{"type": "VM", "image": "disk", **spec})
        await self.add(kinds.APP, App(metadata=meta("guest"), spec=app))

    async def set_node(self, phase: str = "Online") -> None:
        status = EdgeNodeStatus(node_id=NODE_ID, phase=phase)
        node = EdgeNode(metadata=meta("edge-1"), spec=EdgeNodeSpec(serial="s"), status=status)
        await self.add(kinds.EDGE_NODE, node)

    @asynccontextmanager
    async def person(
        self, name: str = "ada", group: str = ADMINS, app: str = "guest", query: str = ""
    ) -> AsyncIterator[Person]:
        token = self.tokens.add(User(name, (group,)))
        url = f"ws://127.0.0.1:{self.operators}{PROJECT_PATH}/{app}/console?{query}"
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=headers, proxy=None) as made:
            yield Person(made)

    def grants(self) -> tuple[ConsoleGrant, ...]:
        """As the node reads them in its config."""
        config = self.dispatcher.config_of(NODE, NODE_ID)
        if config is None:
            return ()
        key = self.ring.keys.signing.key.public_key()
        return access.read_token(config.token, key, NODE_ID).grants

    def session(self, grant: ConsoleGrant) -> Session:
        tls = ssl.create_default_context(cadata=self.ring.keys.root.pem.decode())
        uri = f"wss://127.0.0.1:{self.nodes}{access.PATH}"
        return Session(grant, uri, tls, self._open, self.clock)

    async def _open(self, _wish: ConsoleWish) -> socket.socket:
        if self.refusing:
            raise DoorError(self.refusing)
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(False)
        self.consoles.append(theirs)
        return ours

    @asynccontextmanager
    async def node(self) -> AsyncIterator[asyncio.Task[None]]:
        """It holds the newest grant, once there is one."""
        async with asyncio.timeout(10):
            while not (grants := self.grants()):
                await asyncio.sleep(0.005)
        self.dispatcher.note_asked(NODE)
        task = asyncio.create_task(self.session(grants[-1]).run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def pair(self, query: str = "") -> AsyncIterator[tuple[Person, asyncio.Task[None]]]:
        """Somebody at the console of a node."""
        async with self.person(query=query) as person, self.node() as session:
            await person.greets()
            async with asyncio.timeout(10):
                while not self.consoles:
                    await asyncio.sleep(0.005)
            yield person, session


GROUPS = {"admin": ADMINS, "viewer": VIEWERS, "stranger": f"{PROJECT}elsewhere"}


@asynccontextmanager
async def consoles_world(directory: Path) -> AsyncIterator[ConsolesWorld]:
    clock, store = VirtualClock(time.time()), MemoryStore(history=1000)
    ring = KeyRing(directory / "keys", ["127.0.0.1"], clock)
    tokens = Tokens(directory / "tokens.json")
    changed: list[str] = []
    events = Recorder(store, clock)
    dispatcher = Dispatcher(store, events, lambda: ring.keys.signing.key, changed.append, clock)
    world = ConsolesWorld(clock, store, dispatcher, ring, tokens, changed=changed)
    await world.set_node()
    await world.set_state("RUNNING")
    doors = Doors(tokens, ring.keys.operators.certificate, clock)
    app = create_app(store, doors, clock, Sealer(bytes(32)), streams=dispatcher.streams())
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, tls=None, started=ready.set_result))
    upgrades = Upgrades(access.PATH, dispatcher.serve_node)
    front = HttpServer(Silent(), clock, upgrades=upgrades)
    world.nodes = await front.listen("127.0.0.1", 0, make_tls_context(ring.tls_file))
    world.operators = await ready
    try:
        yield world
    finally:
        for console in world.consoles:
            console.close()
        await front.close(0)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([serving])
        await store.close()
