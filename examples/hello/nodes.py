"""The two ways in which the example's node runs: as the operating system, in a machine of its own,
and in host mode, on the kernel of this one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from edgevirt.host.kvm.acceleration import accelerator
from edgevirt.image.machine import Machine, MachineError, MachineSpec, Port
from examples.hello.job import Failed, Job, interrupts, out

NAME, SERIAL = "hello-node", "hello-0001"
APP_PORT: Final = 8080
IMAGES: Final = Path("build/image/kvm-amd64")
_OUTSIDE: Final = "10.0.2.2"
"""This machine's loopback, as the emulated network shows it to a guest."""
_DISK_SIZE: Final = 4 << 30
_FAREWELL: Final = 60.0
"""Seconds that the node gets to end in order."""
_ASIDE: Final = ThreadPoolExecutor(1)


class Node(Protocol):
    """`registry_port`: where the node finds the registry.

    `answer_seconds`: that the app gets to answer after the node was started.
    """

    registry_port: int
    answer_seconds: float

    def start(self, config: Path, fleet: int, registry: int) -> None:
        """`config`: the files that it is given. `fleet`, `registry`: ports of our loopback."""

    def check(self) -> None:
        """Raises Failed when it has ended."""

    def url(self, address: str) -> str:
        """Of the app, from outside the node; `address`: what the node told of itself."""

    def stop(self) -> None: ...


class HostNode:
    """On this machine's kernel, in namespaces and a directory of its own."""

    registry_port = 5000
    answer_seconds = 120.0

    def __init__(self, job: Job) -> None:
        self._job = job

    def start(self, config: Path, fleet: int, registry: int) -> None:
        self._job.start(
            "node",
            *(sys.executable, "-m", "edgevirt", "node", "run"),
            *("--state", str(self._job.state / "node"), "--config", str(config)),
            *("--serial", SERIAL, "--name", NAME, "--pace", "0.2"),  # someone is watching
            *("--host", "fleet.local", "--host", "registry.local"),
            *("--forward", f"{fleet}:{fleet}", "--forward", f"{self.registry_port}:{registry}"),
        )

    def check(self) -> None:
        """The job knows all programs."""

    def url(self, address: str) -> str:
        return f"http://{address}:{APP_PORT}/"

    def stop(self) -> None:
        """With the job."""


class MachineNode:
    """The live image in a machine of its own, with firmware and a TPM. Its disk is laid meanwhile.

    `here`: the port of our loopback that leads to the app's on the node.
    """

    answer_seconds = 300.0

    def __init__(self, state: Path, here: int, registry_port: int) -> None:
        self.registry_port = registry_port
        self._here = here
        self._spec = MachineSpec(
            state=state / "machine",
            disks=(state / "machine/disk.raw",),
            memory=1536,
            cpus=2,  # nobody else runs here: it starts some seconds sooner
            serial=SERIAL,
            ports=(Port({here: APP_PORT}),),
        )
        self._machine = Machine(self._spec)
        self._accelerator = _ASIDE.submit(self._get_ready)

    def _get_ready(self) -> str:
        """What takes some seconds, and needs no fleet. Returns what accelerates it."""
        self._spec.state.mkdir(parents=True, exist_ok=True)
        self._lay_disk()
        return accelerator()

    def start(self, config: Path, fleet: int, registry: int) -> None:
        if not self._accelerator.result().startswith("kvm"):
            out.print("  emulated: this processor's own virtualization cannot start a guest here")
        self._configure(config)
        with interrupts.held():
            try:
                self._machine.start()
            except MachineError as error:
                raise Failed(str(error)) from error
        out.print(f"  its console: {self._spec.console}")

    def _configure(self, config: Path) -> None:
        """CONFIG's files, with the names by which the guest finds this machine."""
        hosts = f"{_OUTSIDE} fleet.local\n{_OUTSIDE} registry.local\n"
        (config / "hosts").write_text(hosts)
        disk = str(self._spec.disks[0])
        command = (sys.executable, "-m", "edgevirt", "image", "configure", disk)
        done = subprocess.run(
            [*command, "--config", str(config)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"cannot configure the machine: {done.stderr.strip()}")

    def _lay_disk(self) -> None:
        """A new one when the image is another; the TPM, and the node's identity in it, stay."""
        manifest = json.loads((IMAGES / "manifest.json").read_text())
        live = _live(manifest["artifacts"])
        disk, laid = self._spec.disks[0], self._spec.state / "disk.sha256"
        if disk.exists() and laid.exists() and laid.read_text() == live["sha256"]:
            return
        laid.unlink(missing_ok=True)
        shutil.copyfile(IMAGES / live["name"], disk)
        with disk.open("r+b") as file:
            file.truncate(_DISK_SIZE)
        laid.write_text(live["sha256"])

    def check(self) -> None:
        if not self._machine.running:
            tail = self._machine.printed()[-1500:]
            raise Failed(f"cannot go on: the machine ended:\n{tail}")

    def url(self, address: str) -> str:
        return f"http://127.0.0.1:{self._here}/"

    def stop(self) -> None:
        if self._machine.running:
            self._machine.press_power()
            try:
                self._machine.wait(_FAREWELL)
            except MachineError:
                out.print("  the machine does not end by itself; its power is cut")
        self._machine.cut_power()


def _live(artifacts: list[Mapping[str, str]]) -> Mapping[str, str]:
    found = (a for a in artifacts if a["kind"] == "live" and a["name"].endswith(".raw"))
    return next(found)
