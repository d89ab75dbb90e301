"""A screen at the node's own port: there while it may be, closed at once when it may not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from edgevirt.host.door import DoorError
from edgevirt.model.access import ConsoleKind, ConsoleWish
from edgevirt.model.ids import AppId
from edgevirt.node.access.screens import Screens
from tests.parts.loopback import free_port

APP = AppId("app")


class Node:
    """Hands out screens."""

    def __init__(self) -> None:
        self.wishes: list[ConsoleWish] = []
        self.guests: list[socket.socket] = []

    async def open(self, wish: ConsoleWish) -> socket.socket:
        self.wishes.append(wish)
        if wish.app != APP:
            raise DoorError("cannot attach: it does not run")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.guests.append(theirs)
        return ours


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_a_viewer_sees_the_guest_and_is_gone_when_the_port_is() -> None:
    node, port = Node(), free_port()
    screens = Screens(node.open)
    screens.keep({port: APP})
    reader, writer = await connected(port)
    async with asyncio.timeout(10):
        while not node.guests:
            await asyncio.sleep(0.01)
        node.guests[0].sendall(b"RFB 003.008\n")
        assert await reader.readexactly(12) == b"RFB 003.008\n"
        writer.write(b"RFB")
        assert await asyncio.get_running_loop().sock_recv(node.guests[0], 10) == b"RFB"
        screens.keep({})
        assert await reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    node.guests[0].close()
    assert node.wishes == [ConsoleWish(app=APP, kind=ConsoleKind.VNC, guarded=True)]


async def test_a_viewer_of_what_is_not_there_is_sent_away() -> None:
    node, port = Node(), free_port()
    screens = Screens(node.open)
    screens.keep({port: AppId("other")})
    reader, writer = await connected(port)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    screens.keep({})
    await asyncio.sleep(0)


async def test_a_port_that_was_taken_is_tried_again() -> None:
    node, port = Node(), free_port()
    screens = Screens(node.open)
    with socket.create_server(("", port)):
        screens.keep({port: APP})
        await asyncio.sleep(0.05)
    screens.keep({port: APP})
    _, writer = await connected(port)
    writer.close()
    screens.keep({})
    await asyncio.sleep(0.05)
    for guest in node.guests:
        guest.close()
