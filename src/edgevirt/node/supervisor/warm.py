"""Lets the parent of all services do once what each of them will do.

Python changes what it runs: it specialises bytecode, fills type caches, builds decoders. Done
before the fork, the changed pages are shared by all; done after it, each process has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.model import kinds as node_kinds
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service, Settings
from edgevirt.node.supervisor.child import Work, run_service
from edgevirt.runtime import Inputs, InStep, Kind, Output, Report, engine, release
from edgevirt.runtime.socket import SocketStore
from edgevirt.wire import signatures

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


def warm_up(uid: int, get_on: Callable[[], None] = lambda: None) -> None:
    """In a process without threads and event loops; leaves it so. `uid`: the caller's. `get_on` is
    called after each step: a watchdog may wait.
    """
    quiet = [logging.getLogger(name) for name in ("edgevirt.engine", "edgevirt.service")]
    for log in quiet:
        log.disabled = True
    _look_at_links()
    get_on()
    _sign()
    get_on()
    # its entries hold on to names all over; what follows leaves those that services look up
    sys._clear_type_cache()
    with (
        contextlib.suppress(OSError),  # then there is less to share
        tempfile.TemporaryDirectory(prefix="edgevirt-warm-") as directory,
        _held_back({signal.SIGTERM, signal.SIGINT}),
    ):
        _be_service(Path(directory), uid)
    get_on()
    for kind in vars(node_kinds).values():
        if isinstance(kind, Kind):
            _build_codec(kind)
    for log in quiet:
        log.disabled = False
    gc.disable()
    gc.collect()


@contextlib.contextmanager
def _held_back(signals: set[signal.Signals]) -> Iterator[None]:
    """A service takes them as its own, and its loop leaves its handlers behind. Whoever asks the
    node to stop meanwhile must not be missed.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    handlers = {number: signal.getsignal(number) for number in signals}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _be_service(directory: Path, uid: int) -> None:
    """All that a service's process does, but for giving up its rights."""
    paths = Paths(config=directory, persist=directory, run=directory)
    for needed in (paths.sockets, paths.kinds):
        needed.mkdir()
    work = Work(
        paths=paths,
        settings=Settings(),
        owners={},
        uid_names={uid: _SERVICE.name},
        programs=(),
        filters={},
        beat=0.001,
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        run_service(work, _SERVICE, ours.fileno())


async def _serve(context: Context) -> None:
    sockets, names = context.paths.sockets, {os.geteuid(): context.name}
    async with SocketStore(sockets, context.name, (), _SERVICE.owns, uid_names=names) as theirs:
        working = asyncio.create_task(
            engine.run(context.store, context.clock, [_Planner(), _Reconciler()])
        )
        await asyncio.to_thread(sockets.exists)
        await release(context.store, (_ASKED,))
        for number in range(_ROUNDS):
            await context.store.put(_ASKED, f"key{number % 4}", _Thing(name="x", count=number))
            await asyncio.sleep(0)
        async for event in theirs.watch(_DONE):
            if not isinstance(event, InStep) and event.resource.value.count == _ROUNDS - 1:
                break
        for number in range(4):
            await context.store.delete(_ASKED, f"key{number}")
        working.cancel()
        await asyncio.wait([working])
    await _fetch(context.paths.run / "http")


_SERVICE: Final = Service(
    name="warm", reads=(_PLANNED,), owns=(_ASKED, _PLANNED, _DONE), run=_serve
)


def _look_at_links() -> None:
    """pyroute2 compiles each kind of message when it first meets one."""
    with contextlib.suppress(OSError, NetlinkError), IPRoute() as netlink:
        list(netlink.get_links())
        list(netlink.get_addr())
        list(netlink.get_routes())
        list(netlink.get_neighbours())


def _sign() -> None:
    """Sets the two OpenSSLs up, Python's and that of cryptography. The key is nobody's."""
    _context()
    digest = hashlib.sha256(b"").digest()
    key = ec.generate_private_key(ec.SECP256R1())
    signatures.verify(key.public_key(), signatures.sign_digest(key, digest), b"")


def _context() -> ssl.SSLContext:
    """Trusts nobody: a library's own would read what the machine trusts."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _fetch(path: Path) -> None:
    """One request over a Unix socket: what an HTTP client imports late, it imports now."""
    import httpx

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await reader.read(65_536)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_unix_server(answer, path)
    transport = httpx.AsyncHTTPTransport(uds=str(path), verify=_context())
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        with contextlib.suppress(httpx.HTTPError):
            for _ in range(_ROUNDS // 4):
                await client.get("http://controller.invalid/")
    server.close()


def _build_codec(kind: Kind[Any]) -> None:
    """What is no value of the kind still makes it build its decoder."""
    with contextlib.suppress(msgspec.MsgspecError):
        kind.decode(b"\xc0")
