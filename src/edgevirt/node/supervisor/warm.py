"""Lets the parent of all services do once what each of them will do.

Python changes what it runs: it specialises bytecode, fills type caches, builds decoders. Done
before the fork, the changed pages are shared by all; done after it, each process has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import uvloop

from edgevirt.model import kinds as node_kinds
from edgevirt.runtime import Inputs, InStep, Kind, Output, RealClock, Report
from edgevirt.runtime.engine import run
from edgevirt.runtime.socket import SocketStore

_ROUNDS: Final = 40
"""After so many calls everything hot is specialised."""


class _Thing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    count: int = 0


_ASKED: Final = Kind("WarmAsked", _Thing)
_PLANNED: Final = Kind("WarmPlanned", _Thing)
_DONE: Final = Kind("WarmDone", _Thing)


class _Planner:
    name = "warm.planner"
    reads: tuple[Kind[Any], ...] = (_ASKED,)
    owns: tuple[Kind[Any], ...] = (_PLANNED,)

    def plan(self, inputs: Inputs) -> Iterator[Output]:
        for key, thing in inputs.all(_ASKED).items():
            yield Output(_PLANNED, key, thing)


class _Reconciler:
    name = "warm.reconciler"
    spec: Kind[Any] = _PLANNED
    status: Kind[Any] = _DONE
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None

    async def reconcile(
        self, key: str, spec: _Thing | None, inputs: Inputs, report: Report[Any]
    ) -> _Thing | None:
        return spec

    async def existing(self) -> Iterable[str]:
        return ()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE: Final = 64 << 10


def give_back_memory() -> None:
    """What a service frees goes back to the kernel: one heap for all threads, none kept ahead.

    The C library would keep a heap for each thread, and what a service once needed, for ever.
    """
    libc = ctypes.CDLL(None)
    for parameter, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _LARGE),
        (_M_TRIM_THRESHOLD, _LARGE),
    ):
        libc.mallopt(parameter, value)


def warm_up(uid: int) -> None:
    """In a process without threads and event loops; leaves it so. `uid`: the caller's."""
    log = logging.getLogger("edgevirt.warm")
    log.disabled = True
    with (
        contextlib.suppress(OSError, httpx.HTTPError),  # then there is less to share
        tempfile.TemporaryDirectory(prefix="edgevirt-warm-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_work(Path(directory), uid, log))
    for kind in vars(node_kinds).values():
        if isinstance(kind, Kind):
            _build_codec(kind)
    gc.collect()


async def _work(directory: Path, uid: int, log: logging.Logger) -> None:
    owned = (_ASKED, _PLANNED, _DONE)
    names = {uid: "warm"}
    async with (
        SocketStore(directory, "warm", owned, (), uid_names=names, held=owned, log=log) as ours,
        SocketStore(directory, "warm", (), owned, uid_names=names, log=log) as theirs,
    ):
        engine = asyncio.create_task(run(ours, RealClock(), [_Planner(), _Reconciler()], log=log))
        await ours.release(_ASKED)
        for number in range(_ROUNDS):
            await ours.put(_ASKED, f"key{number % 4}", _Thing(name="x", count=number))
            await asyncio.sleep(0)
        async for event in theirs.watch(_DONE):
            if not isinstance(event, InStep) and event.resource.value.count == _ROUNDS - 1:
                break
        for number in range(4):
            await ours.delete(_ASKED, f"key{number}")
        engine.cancel()
        await asyncio.wait([engine])
    await _fetch(directory / "http")


async def _fetch(path: Path) -> None:
    """One request over a Unix socket: what an HTTP client imports late, it imports now."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await reader.read(65_536)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_unix_server(answer, path)
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        for _ in range(_ROUNDS // 4):
            await client.get("http://controller.invalid/")
    server.close()


def _build_codec(kind: Kind[Any]) -> None:
    """What is no value of the kind still makes it build its decoder."""
    with contextlib.suppress(msgspec.MsgspecError):
        kind.decode(b"\xc0")
