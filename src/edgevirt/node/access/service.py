"""The access service: holds the sessions that the config grants, and the ports that it opens."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final

from edgevirt.host import door
from edgevirt.model import kinds
from edgevirt.node.access.screens import Screens
from edgevirt.node.access.session import Session
from edgevirt.node.access.wanted import Believed, Wanted, open_ports, tls_context, wanted
from edgevirt.node.roots import controller_roots
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Kind
from edgevirt.runtime.replica import Replica

_LOG: Final = logging.getLogger("edgevirt.access")

ALLOW_VNC: Final = "app.allow.vnc"
_LOOK_AGAIN: Final = 60.0
"""Seconds: what waits for time, or for a port, is looked at again."""
_READ: Final[tuple[Kind[Any], ...]] = (
    kinds.ACCESS_CONFIG,
    kinds.CONTROLLER_CERTIFICATES,
    kinds.AGENT_STATUS,
    kinds.DOMAIN_STATUS,
    kinds.PROPERTY,
)


class Access:
    """What is held: a task for each session, and the ports."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._replica = Replica(context.store, _READ)
        self._news = asyncio.Event()
        self._believed = Believed(
            context.paths.server.read_text().strip(), context.paths.root_certificate.read_bytes()
        )
        self._own_tls = controller_roots(context.paths)
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._refused = ""
        self._screens = Screens(self._open_console)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            for kind in _READ:
                group.create_task(self._replica.follow(kind, lambda _kind, _key: self._news.set()))
            group.create_task(self._look_again())
            while True:
                await self._news.wait()
                self._news.clear()
                self._hold(self._wanted(), group)
                self._screens.keep(self._ports())

    def _wanted(self) -> Wanted:
        status = self._one(kinds.AGENT_STATUS, "node")
        return wanted(
            self._one(kinds.ACCESS_CONFIG, "node"),
            self._one(kinds.CONTROLLER_CERTIFICATES, "controller"),
            status.node if status is not None else None,
            self._believed,
            self._context.clock.now(),
        )

    def _ports(self) -> Mapping[int, Any]:
        allowed = self._one(kinds.PROPERTY, ALLOW_VNC)
        statuses = self._replica.tables[kinds.DOMAIN_STATUS.name]
        return open_ports(statuses, allowed=allowed is not None and allowed.value == "true")

    def _hold(self, want: Wanted, group: asyncio.TaskGroup) -> None:
        """One task for each grant, ever: a session that ended is not held again."""
        self._tell(want.refused)
        for name in [name for name in self._sessions if name not in want.grants]:
            self._sessions.pop(name).cancel()
        if want.dispatcher is None:
            return
        try:
            tls = tls_context(want.dispatcher, self._own_tls)
        except (ValueError, ssl.SSLError) as error:
            self._tell(f"cannot use the access token: the dispatcher's certificates: {error}")
            return
        for name, grant in want.grants.items():
            if name not in self._sessions:
                uri, clock = want.dispatcher.uri, self._context.clock
                session = Session(grant, uri, tls, self._open_console, clock)
                self._sessions[name] = group.create_task(session.run(), name=f"session {name}")

    def _tell(self, refused: str) -> None:
        """Once for as long as it is so."""
        if refused and refused != self._refused:
            _LOG.warning("%s", refused)
        self._refused = refused

    async def _look_again(self) -> None:
        while True:
            await self._context.clock.sleep(_LOOK_AGAIN)
            self._news.set()

    async def _open_console(self, wish: Any) -> Any:
        return await door.ask(self._context.paths.consoles_door, wish)

    def _one(self, kind: Kind[Any], key: str) -> Any:
        return self._replica.tables[kind.name].get(key)


async def run(context: Context) -> None:
    await Access(context).run()


SERVICE = Service(name="access", reads=_READ, owns=(), run=run)
