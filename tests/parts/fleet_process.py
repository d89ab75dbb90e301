"""A real fleet in a process of its own, for tests and benches: started, asked, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from edgevirt.client.client import Client
from edgevirt.client.errors import ClientError
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from tests.parts.device_client import Onboarding
from tests.parts.loopback import free_port

PATIENCE = 90.0
"""Seconds until a test gives up waiting for what must come."""
API = "edgevirt.io/v1alpha1"


def until(what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class FleetProcess:
    """`directory`: for its kubeconfig, its log and, unless given, its data."""

    def __init__(self, directory: Path, data: Path | None = None) -> None:
        self.directory = directory
        self.data = data or directory / "fleet"
        self.kubeconfig = directory / "kubeconfig"
        self.nodes = free_port()
        self.operators = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._edgevirt("init", "--kubeconfig", str(self.kubeconfig))

    @property
    def root_file(self) -> Path:
        return self.data / "keys" / "root-certificate.pem"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(load_connection(self.kubeconfig))
        return self._client

    def _command(self, verb: str, *more: str) -> list[str]:
        ports = [
            *("--nodes", f"127.0.0.1:{self.nodes}", "--operators", f"127.0.0.1:{self.operators}")
        ]
        where = [] if verb in {"rotate", "restored"} else ports
        program = [sys.executable, "-m", "edgevirt", "fleet", verb]
        return [*program, "--data", str(self.data), *where, *more]

    def _edgevirt(self, verb: str, *more: str) -> None:
        done = subprocess.run(
            self._command(verb, *more), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def rotate(self, role: str) -> None:
        """As an operator does it, beside the running fleet."""
        self._edgevirt("rotate", role)

    def note_restored(self) -> None:
        """As an operator does it, before the fleet is started on a restored directory."""
        self._edgevirt("restored")

    def start(self) -> None:
        """Returns when both APIs answer."""
        with (self.directory / "fleet.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until("the fleet is ready", self._answers, PATIENCE)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with contextlib.suppress(ClientError):
            return bool(self.client.types())
        return False

    def log(self) -> str:
        return (self.directory / "fleet.log").read_text()

    def kill(self) -> None:
        """As a power cut would, but for the kernel."""
        assert self._process is not None
        self._forget_client()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def stop(self) -> None:
        """As told; it must end by itself."""
        self._forget_client()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                assert self._process.wait(PATIENCE) == 0, self.log()
            finally:
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()

    # -- objects --

    def create(self, kind: str, name: str, spec: Object, **more: Any) -> Object:
        body = {
            "apiVersion": API if kind not in ("Secret", "Namespace") else "v1",
            "kind": kind,
            "metadata": {"name": name},
            **({"spec": spec} if spec else {}),
            **more,
        }
        return self.client.create(self.client.type_of(kind), "default", body)

    def get(self, kind: str, name: str) -> Object:
        return self.client.get(self.client.type_of(kind), "default", name)

    def patch(self, kind: str, name: str, spec: Object) -> Object:
        type_ = self.client.type_of(kind)
        return self.client.patch(type_, "default", name, {"spec": spec}, style="merge")

    def delete(self, kind: str, name: str) -> None:
        self.client.delete(self.client.type_of(kind), "default", name)

    def status(self, kind: str, name: str) -> Object:
        found: Object = self.get(kind, name).get("status", {})
        return found

    def condition(self, kind: str, name: str, type_: str) -> Object:
        conditions = self.status(kind, name).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {"status": ""})

    def admit(self, onboarding: Onboarding, *serials: str, approve: bool = True) -> str:
        """An OnboardingKey for these serials; returns its name."""
        name = f"key-{os.urandom(4).hex()}"
        certificate = onboarding.pem.decode()
        self.create(
            "OnboardingKey",
            name,
            {"certificate": certificate, "serials": serials or ["*"], "autoApprove": approve},
        )
        return name

    def plain_get(self, path: str) -> httpx.Response:
        """Of the nodes' API, without a signature."""
        context = ssl.create_default_context(cafile=str(self.root_file))
        url = f"https://localhost:{self.nodes}{path}"
        return httpx.get(url, verify=context, trust_env=False)
