"""The command line before a real operators' API on TLS, served from memory beside the tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from click.testing import CliRunner, Result

from edgevirt.__main__ import edgevirt as command
from edgevirt.client.client import Client
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from edgevirt.fleet.api import Tls, create_app, serve
from edgevirt.fleet.attestation.audit import Audit
from edgevirt.fleet.enrollment.bootstrap import Bootstrap
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.kubeconfig import issue, write_kubeconfig
from edgevirt.fleet.operators.roles import ADMINS, VIEWERS, User
from edgevirt.fleet.readback.readback import Readback
from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.runtime import RealClock
from edgevirt.runtime.memory import MemoryStore

T = TypeVar("T")
API = "edgevirt.io/v1alpha1"
SECONDS = 90.0
"""That anything may take before a test gives up."""


class Fleet:
    """An operators' API in a thread of its own. `kubeconfig` is of somebody who may do all."""

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self.viewer = directory / "viewer"
        self.tokens = Tokens(directory / "tokens.json")
        self.clock = RealClock()
        self.ring = KeyRing(directory / "keys", ["127.0.0.1"], self.clock)
        self.telemetry = Telemetry(directory / "telemetry.db", self.clock)
        self._ready: queue.Queue[int] = queue.Queue()
        self._serving = threading.Thread(target=self._run, name="fleet")
        self._serving.start()
        self.port = self._ready.get(timeout=SECONDS)
        self.url = f"https://127.0.0.1:{self.port}"
        self.write_kubeconfig(self.kubeconfig, User("ada", (ADMINS,)))
        self.write_kubeconfig(self.viewer, User("vic", (VIEWERS,)))

    def write_kubeconfig(self, path: Path, user: User) -> None:
        credential = issue(self.ring.keys.operators.issuer, user, self.clock.now())
        write_kubeconfig(path, self.url, self.ring.keys.root.pem + b"\n", credential)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(self._serve())

    async def _serve(self) -> None:
        self._task = asyncio.current_task()
        store = self.store = MemoryStore(history=1000)
        self.telemetry.start()
        app = create_app(
            store,
            Doors(self.tokens, self.ring.keys.operators.certificate, self.clock),
            self.clock,
            Sealer(bytes(32)),
            extra=(
                *Readback(store, self.telemetry, self.clock).subresources(),
                *Audit(store).subresources(),
                *Bootstrap(self.ring, self.clock).subresources(),
            ),
        )
        try:
            tls = Tls(self.ring.tls_file, self.ring.operators_file)
            await serve(app, tls=tls, started=self._ready.put)
        finally:
            await self.telemetry.close()

    def stop(self) -> None:
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._serving.join(SECONDS)
        assert not self._serving.is_alive()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """In the fleet's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def report(self, stream: Stream, node: str, item: str, at: float, payload: bytes) -> None:
        await self.telemetry.append(stream, uuid.UUID(node).bytes, item, at, payload)


class CommandLine:
    """One project of the fleet, and `edgevirt` called for it."""

    def __init__(self, fleet: Fleet, project: str) -> None:
        self.fleet = fleet
        self.project = project
        self.client = Client(load_connection(fleet.kubeconfig))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": project}}
        self.client.create(self.client.type_of("Namespace"), None, namespace)

    def close(self) -> None:
        self.client.close()

    # -- calling --

    def run(self, *words: str, given: str = "", env: dict[str, str] | None = None) -> Result:
        """`given`: what is typed. The result has exit_code, stdout and stderr."""
        where = ["--kubeconfig", str(self.fleet.kubeconfig), "-n", self.project]
        return self.run_bare(*where, *words, given=given, env=env)

    def run_bare(self, *words: str, given: str = "", env: dict[str, str] | None = None) -> Result:
        result = CliRunner().invoke(command, list(words), input=given, env=env)
        unexpected = result.exception
        assert unexpected is None or isinstance(unexpected, SystemExit), repr(unexpected)
        return result

    def out(self, *words: str, given: str = "") -> str:
        """What a call prints that must succeed."""
        result = self.run(*words, given=given)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def refused(self, *words: str, given: str = "") -> str:
        """What a call says that must fail: one sentence, and perhaps a hint."""
        result = self.run(*words, given=given)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.stderr
        return result.stderr

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """A call that goes on until Ctrl-C."""
        where = ["--kubeconfig", str(self.fleet.kubeconfig), "-n", self.project]
        running = Running([*where, *words])
        try:
            yield running
        finally:
            running.kill()

    # -- objects --

    def create(self, kind: str, name: str, spec: Object, **meta: Any) -> Object:
        body = {
            "apiVersion": "v1" if kind in {"Secret", "Event"} else API,
            "kind": kind,
            "metadata": {"name": name, **meta},
            **({"spec": spec} if kind not in {"Secret", "Event"} else spec),
        }
        return self.client.create(self.client.type_of(kind), self.project, body)

    def get(self, kind: str, name: str) -> Object:
        return self.client.get(self.client.type_of(kind), self.project, name)

    def patch(self, kind: str, name: str, change: Object, sub: str = "") -> Object:
        type_ = self.client.type_of(kind)
        return self.client.patch(type_, self.project, name, change, style="merge", sub=sub)

    def node(self, name: str, **meta: Any) -> Object:
        return self.create("EdgeNode", name, {"serial": f"{self.project}-{name}"}, **meta)

    def app_on(self, node: str, name: str = "hello") -> Object:
        """An app instance, and all that it needs beside the node."""
        url = "docker://registry:5000"
        self.create("Datastore", name, {"type": "OCIRegistry", "url": url})
        image = {"datastoreRefs": [{"name": name}], "reference": "hello:1"}
        self.create("Image", name, image)
        self.create("App", name, {"image": name})
        return self.create("AppInstance", name, {"app": name, "edgeNode": node})

    def bind(self, node: str) -> str:
        """As if a machine had come: the node's UUID."""
        number = str(uuid.uuid4())
        self.patch("EdgeNode", node, {"status": {"nodeID": number}}, "status")
        return number


class Running:
    """`edgevirt` in a process of its own, its lines as they come."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgevirt", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, part: str = "") -> str:
        """The next line with `part` in it."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"no line with {part!r} came") from None
            if part in line:
                return line

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C: the exit status and what was said on stderr."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(SECONDS)
        assert self._process.stderr is not None
        return code, self._process.stderr.read()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
