"""Services of a node as processes of their own, on the real store between processes.

A test starts the services that it is about, and speaks for all others itself. As a program:
`service_process.py NAME STATE CGROUP` is one service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.node.services import ROWS, load, row_of
from edgevirt.node.supervisor.directories import prepare, prepare_vault
from edgevirt.runtime import Kind, RealClock, engine
from edgevirt.runtime.socket import SocketStore

UID_NAMES = {row.uid: row.name for row in ROWS}


def paths_of(state: Path) -> Paths:
    return Paths(state / "config", state / "persist", state / "run", tpm=state / "no tpm")


class Services:
    """Started and killed one by one. Close it, whatever happened."""

    def __init__(self, state: Path, cgroup: str, names: tuple[str, ...]) -> None:
        self.paths = paths_of(state)
        self._state = state
        self._cgroup = cgroup
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        prepare(self.paths, [load(row_of(name)) for name in names], Settings())
        prepare_vault(self.paths)

    def start(self, name: str) -> int:
        command = [sys.executable, __file__, name, str(self._state), self._cgroup]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with (self._state / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, env=environment, stderr=log)
        return self._running[name].pid

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> str:
        return (self._state / f"{name}.log").read_text()

    def close(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def store(self, owns: tuple[Kind[Any], ...], reads: tuple[Kind[Any], ...]) -> SocketStore:
        """The test's own, as root: what it owns it serves in place of other services."""
        return SocketStore(self.paths.sockets, "domains", owns, reads, uid_names=UID_NAMES)


async def serve(name: str, state: Path, cgroup: str) -> None:
    row = row_of(name)
    service = load(row)
    paths = paths_of(state)
    os.setgroups([])
    os.setgid(row.uid)
    os.setuid(row.uid)
    store = SocketStore(
        paths.sockets,
        name,
        service.owns,
        service.reads,
        uid_names=UID_NAMES,
        persist_dir=paths.kinds,
        held=service.owns,
    )
    async with store:
        guarded = engine.guard(store, service.reads, service.owns)
        settings = Settings(cgroup=cgroup)
        await service.run(Context(name, guarded, RealClock(), paths, settings))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
