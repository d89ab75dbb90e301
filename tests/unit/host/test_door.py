"""What is open is handed to one other user, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edgevirt.host import door
from edgevirt.host.door import Door, DoorError


class Wish(msgspec.Struct, frozen=True):
    what: str


class House:
    """Hands out one end of a pair for each wish; `others` are the other ends."""

    def __init__(self) -> None:
        self.others: list[socket.socket] = []

    async def ask(self, wish: Wish) -> socket.socket:
        if wish.what == "nothing":
            raise DoorError("cannot attach: there is nothing")
        if wish.what == "forever":
            await asyncio.Event().wait()
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        return ours


@asynccontextmanager
async def opened(path: Path, house: House, user: int = os.geteuid()) -> AsyncIterator[None]:
    task = asyncio.create_task(Door(path, user, Wish, house.ask).serve())
    while not path.exists():
        await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        for other in house.others:
            other.close()


async def test_what_is_asked_for_is_handed_over(tmp_path: Path) -> None:
    house = House()
    async with opened(tmp_path / "door", house):
        with await door.ask(tmp_path / "door", Wish("a console")) as handed:
            house.others[0].sendall(b"login: ")
            assert await asyncio.get_running_loop().sock_recv(handed, 100) == b"login: "


async def test_why_there_is_nothing_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "door", House()):
        with pytest.raises(DoorError, match="there is nothing"):
            await door.ask(tmp_path / "door", Wish("nothing"))


@pytest.mark.parametrize("question", [b"", b"not json", b'{"other": 1}', b"[" * 5000])
async def test_a_question_that_cannot_be_read_is_refused(tmp_path: Path, question: bytes) -> None:
    async with opened(tmp_path / "door", House()):
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asking:
            asking.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(asking, str(tmp_path / "door"))
            await loop.sock_sendall(asking, question)
            if not question:
                asking.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(asking, 1000)
        with await door.ask(tmp_path / "door", Wish("a console")):
            pass  # it serves on


async def test_a_closed_house_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DoorError, match="cannot ask"):
        await door.ask(tmp_path / "door", Wish("a console"))


async def test_another_one_who_asks_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House()
    async with opened(tmp_path / "door", house):
        monkeypatch.setattr(door, "_user_of", lambda _asking: 64_999)
        with pytest.raises(DoorError):
            await door.ask(tmp_path / "door", Wish("a console"))
    assert house.others == []
