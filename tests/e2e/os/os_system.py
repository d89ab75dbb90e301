"""A whole system whose node is a machine that boots our image: firmware, TPM, disk and all.

Registry, fleet and a store of OS images run on this machine's loopback; the guest reaches them as
10.0.2.2. What a test wants to know it asks the fleet, as people do, or reads off the console.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edgevirt.client.resources import Object
from edgevirt.image.machine import Machine, MachineSpec, Port
from tests.e2e.system import NODE, SERIAL, NamedFleet, System, eventually
from tests.parts.docker_registry import docker_registry
from tests.parts.loopback import free_port

IMAGES: Final = Path(__file__).parents[3] / "build/image/kvm-amd64"
OUTSIDE: Final = "10.0.2.2"
DISK: Final = 3 << 30
BOOT: Final = 300.0
"""Seconds from power to the fleet's «Online»: some 50 on a quiet machine, emulated."""
QUICK: Final = {
    "timer.config.interval": "5",
    "timer.metric.interval": "5",
    "timer.test.baseimage.update": "30",
    "timer.update.fallback.no.network": "60",
    "timer.vault.ready.cutoff": "60",
}
"""Properties at their least, so that tests take their time for what they test."""


class OsSystem(System):
    """`machine`: the node. `ports`: of our loopback that lead to the same ports of the node."""

    machine: Machine
    ports: tuple[int, ...]

    # -- the machine --

    @property
    def disk(self) -> Path:
        return self.machine.spec.disks[0]

    def lay_disk(self, images: Path = IMAGES) -> None:
        """A new disk with the live image, for this node."""
        self.disk.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / str(artifact("live", images)["name"]), self.disk)
        with self.disk.open("r+b") as file:
            file.truncate(DISK)
        self.configure_disk(self.disk)

    def configure_disk(self, disk: Path) -> None:
        config = self.directory / "config"
        (config / "hosts").write_text(f"{OUTSIDE} fleet.local\n{OUTSIDE} registry.local\n")
        self.edgevirt("image", "configure", str(disk), "--config", str(config))

    def power_on(self) -> None:
        self.machine.start()

    def online(self, seconds: float = BOOT) -> Object:
        """Waits until the fleet has heard from the node as it is now; returns its status."""
        before = self.node_status().get("bootTime", "")

        def heard() -> Object | None:
            self.assert_powered()
            status = self.node_status()
            return status if status.get("bootTime", "") != before else None

        found: Object = self.eventually("the node is online", heard, seconds)
        return found

    def assert_powered(self) -> None:
        assert self.machine.running, self.machine.printed()[-3000:]

    def node_status(self) -> Object:
        return self.fleet.status("EdgeNode", NODE)

    def condition(self, kind: str) -> Object:
        return next((c for c in self.node_status().get("conditions", ()) if c["type"] == kind), {})

    def eventually(self, what: str, found: Any, seconds: float) -> Any:
        """As everywhere, with the end of the console where it does not come."""
        try:
            return eventually(what, found, seconds, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.printed()[-6000:]}") from None

    def console_says(self, text: str, seconds: float, times: int = 1) -> None:
        self.eventually(
            f"the console says {text!r}",
            lambda: self.machine.printed().count(text) >= times,
            seconds,
        )

    def tails(self, lines: int = 25) -> str:
        """The ends of what the fleet and the machine said."""
        log = (self.fleet.directory / "fleet.log").read_text(errors="replace").splitlines()
        said = [*log[-lines:], "-- console", *self.machine.printed().splitlines()[-2 * lines :]]
        return "\n".join(said)

    # -- apps --

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}/"

    # -- the operating system --

    def os(self) -> Object:
        found: Object = self.node_status().get("os", {})
        return found

    def slots(self) -> dict[str, tuple[str, str]]:
        """Label → state and version, as the node told."""
        return {s["label"]: (s["state"], s.get("version", "")) for s in self.os().get("slots", [])}


def artifact(kind: str, images: Path = IMAGES) -> dict[str, Any]:
    found = json.loads((images / "manifest.json").read_text())["artifacts"]
    chosen: dict[str, Any] = next(a for a in found if a["kind"] == kind and _is_plain(a["name"]))
    return chosen


def _is_plain(name: str) -> bool:
    return not name.endswith(".qcow2")


@contextlib.contextmanager
def os_system(directory: Path, **options: Any) -> Iterator[OsSystem]:
    """Not powered yet. `options`: of the MachineSpec."""
    (directory / "controller").mkdir(parents=True)
    fleet = NamedFleet(directory / "controller")
    fleet.start()
    try:
        with docker_registry(directory / "registry") as registry:
            system = OsSystem(directory, fleet, registry, free_port())
            system.ports = tuple(free_port() for _ in range(4))
            forwards = {port: port for port in system.ports}
            spec = MachineSpec(
                state=directory / "machine",
                disks=(directory / "machine/disk.raw",),
                memory=1280,
                serial=SERIAL,
                ports=(Port(forwards),),
            )
            system.machine = Machine(replace(spec, **options))
            system.configure()
            fleet.patch("EdgeNode", NODE, {"properties": QUICK})
            try:
                yield system
            finally:
                system.machine.cut_power()
    finally:
        fleet.stop()


@contextlib.contextmanager
def file_server(directory: Path) -> Iterator[int]:
    """Serves a directory over HTTP on loopback; its port."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Tests print what is wrong, not what was asked."""
