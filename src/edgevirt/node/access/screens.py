"""Apps' screens at the node's own ports, while the node's properties allow it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Final

from edgevirt.host.door import DoorError
from edgevirt.model.access import ConsoleKind, ConsoleWish
from edgevirt.model.ids import AppId
from edgevirt.node.access.session import OpenConsole

_LOG: Final = logging.getLogger("edgevirt.access")
_MOST: Final = 8
"""Viewers of one port at a time."""
_CHUNK: Final = 32_768


class Screens:
    """The listening ports and their viewers; all of an app's end when its port is closed."""

    def __init__(self, open_console: OpenConsole) -> None:
        self._open_console = open_console
        self._ports: dict[int, tuple[AppId, asyncio.Task[None]]] = {}

    @property
    def ports(self) -> Mapping[int, AppId]:
        return {port: app for port, (app, _) in self._ports.items()}

    def keep(self, wanted: Mapping[int, AppId]) -> None:
        """Those ports and no others. A port that cannot be had is tried again the next time."""
        for port, (app, task) in list(self._ports.items()):
            if wanted.get(port) != app or task.done():
                task.cancel()
                del self._ports[port]
        for port, app in wanted.items():
            if port not in self._ports:
                self._ports[port] = (app, asyncio.create_task(self._serve(port, app)))

    async def _serve(self, port: int, app: AppId) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as kept:
            try:
                listening = kept.enter_context(socket.create_server(("", port), backlog=_MOST))
            except OSError as failure:
                _LOG.error("cannot show the screen of %s at port %d: %s", app, port, failure)
                return
            listening.setblocking(False)
            _LOG.info("the screen of %s is shown at port %d", app, port)
            viewers = asyncio.Semaphore(_MOST)
            async with asyncio.TaskGroup() as group:
                while True:
                    await viewers.acquire()
                    viewer, _ = await loop.sock_accept(listening)
                    task = group.create_task(self._show(viewer, app))
                    task.add_done_callback(lambda _task: viewers.release())

    async def _show(self, viewer: socket.socket, app: AppId) -> None:
        wish = ConsoleWish(app=app, kind=ConsoleKind.VNC, guarded=True)
        with viewer:
            try:
                screen = await self._open_console(wish)
            except DoorError as failure:
                _LOG.warning("%s", failure)
                return
            with screen:
                ways = [
                    asyncio.create_task(_copy(viewer, screen)),
                    asyncio.create_task(_copy(screen, viewer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.wait(ways)


async def _copy(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(target, data)
