"""The fleet as one process, and what is done to its directory while it runs or is stopped.

A part that fails ends the process: whoever started it starts it again, from what is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvloop

from edgevirt.fleet.configs.lineage import hold_all
from edgevirt.fleet.enrollment.node_files import write_node_files
from edgevirt.fleet.keys import KeyRing, Role
from edgevirt.fleet.objects.core.sealing import load_sealer
from edgevirt.fleet.operators.kubeconfig import issue, write_kubeconfig
from edgevirt.fleet.operators.roles import ADMINS, User
from edgevirt.fleet.wiring import WILDCARDS, Fleet, Ready, Settings
from edgevirt.runtime import RealClock
from edgevirt.runtime.sql import SqlStore

_log: Final = logging.getLogger("edgevirt.fleet")


class InUse(Exception):
    """Another fleet works on the same directory."""


def init(settings: Settings, kubeconfig: Path) -> None:
    """Makes the keys, if there are none, and a kubeconfig for an operator who may do all."""
    clock = RealClock()
    _make_directory(settings.data)
    ring = KeyRing(settings.keys, settings.hosts, clock)
    load_sealer(settings.keys)
    credential = issue(ring.keys.operators.issuer, User("admin", (ADMINS,)), clock.now())
    host, port = settings.operators
    name = f"[{host}]" if ":" in host else host
    server = f"https://{'127.0.0.1' if host in WILDCARDS else name}:{port}"
    write_kubeconfig(kubeconfig, server, ring.keys.root.pem + b"\n", credential)


def rotate(data: Path, role: str) -> None:
    """Replaces a pair of keys; a running fleet sees it by itself."""
    KeyRing(data / "keys", (), RealClock()).rotate(Role(role))


def note_restored(settings: Settings) -> int:
    """Of how many nodes the configs are held back until each shows which one it has."""

    async def hold() -> int:
        store = SqlStore(settings.url)
        await store.open()
        try:
            return await hold_all(store, time.time())
        finally:
            await store.close()

    with _locked(settings.data / "lock"):
        return asyncio.run(hold())


def write_node_config(data: Path, directory: Path, server: str, serial: str) -> None:
    """What a new node is given."""
    ring = KeyRing(data / "keys", (), RealClock())
    write_node_files(
        directory,
        root_pem=ring.keys.root.pem + b"\n",
        server=server,
        serial=serial,
        now=time.time(),
    )


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def tell(ready: Ready) -> None:
        _log.info("ready: nodes on port %d, operators on port %d", ready.nodes, ready.operators)

    uvloop.run(serve(settings, tell))


async def serve(
    settings: Settings,
    ready: Callable[[Ready], None] = lambda _ready: None,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until `stop` is set, or by SIGTERM or SIGINT where none is given."""
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _raise_file_limit()
    _make_directory(settings.data)
    with _locked(settings.data / "lock"):
        fleet = Fleet(settings, RealClock())
        await fleet.open()
        try:
            await fleet.serve(ready, stop)
        finally:
            await fleet.close()


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InUse(f"cannot start: another fleet uses {path.parent}") from None
    finally:
        os.close(descriptor)


def _raise_file_limit() -> None:
    """One file per connection: the default of many systems would admit a thousand nodes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
