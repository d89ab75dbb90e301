"""A whole system on free ports of this machine: registry, fleet and one host-mode node.

Each part is the program that people run, in a process of its own. What a test wants to know, it
asks as people do (`Client`, HTTP), or asks the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from edgevirt.client.resources import Object
from edgevirt.image.eci.oci import Pusher, make_image, pack_layer
from edgevirt.model.content import ImageConfig
from edgevirt.wire.oci import platform_of
from tests.parts.docker_registry import DockerRegistry, docker_registry
from tests.parts.fleet_process import FleetProcess
from tests.parts.host_node import HOME, Node, children_of, group_of, leftovers, name_of, status
from tests.parts.loopback import free_port

SERIAL = "whole-0001"
NODE = "edge-1"
SUBNET = "10.9.0.0/24"
PATIENCE = 90.0
PACE = 0.2
"""A test changes something, and waits until its node asks again."""
FRESH = 2.0
"""Seconds that a node's address is believed without another look."""
START = """#!/bin/sh
trap 'echo stopped >>/data/ends; exit 0' TERM
echo started >>/data/starts
echo "probe started"
httpd -p 80 -h /www
while :; do sleep 1000 & wait $!; done
"""
RUN = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
exec sh 2>&1
"""
APPLETS = (
    "sh cat echo date dd df free httpd ls nslookup ping printf rm sed sleep tail touch true wc wget"
)
_HTTP = httpx.Client(trust_env=False, timeout=httpx.Timeout(5.0, connect=2.0))
"""No proxy of this machine has a say."""


class NamedFleet(FleetProcess):
    """A fleet that nodes call by a name."""

    def _command(self, verb: str, *more: str) -> list[str]:
        named = ("--san", "fleet.local") if verb in {"init", "run"} else ()
        return super()._command(verb, *more, *named)


def eventually(
    what: str, found: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.05
) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)


def kill(pid: int) -> None:
    """-9. (0 would be the tests' own process group.)"""
    assert pid > 1
    os.kill(pid, signal.SIGKILL)


def read(url: str, script: str | None = None) -> str:
    """What an app answers; empty while it does not. `script`: run it in the app."""
    with contextlib.suppress(httpx.HTTPError):
        answer = _HTTP.get(url) if script is None else _HTTP.post(url, content=script)
        if answer.status_code == 200:
            return answer.text
    return ""


class Poll:
    """Asks an app all the time, and remembers each time that it had no answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers = 0
        self.silences: list[str] = []

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=10.0) as client:
            while not self._ended.wait(0.02):
                try:
                    client.get(self._url).raise_for_status()
                    self.answers += 1
                except httpx.HTTPError as error:
                    self.silences.append(f"{time.monotonic():.2f} {error!r}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class System:
    """`directory`: of this system alone. Its node is started by `start_node`."""

    directory: Path
    fleet: NamedFleet
    registry: DockerRegistry
    private_port: int
    """Where a second registry may be started; the node reaches it as `registry.local`."""
    node: Node = field(init=False, repr=False)
    _seen: tuple[float, int, str] = (0.0, 0, "")
    """When a node was looked at: its first process, and its address."""
    _ports: Iterator[int] = field(init=False, default_factory=lambda: iter(range(9000, 9999)))

    # -- parts --

    @property
    def registry_port(self) -> int:
        return int(self.registry.host.rpartition(":")[2])

    @property
    def state(self) -> Path:
        return self.directory / "node"

    def configure(self) -> None:
        """What a node is given, and its EdgeNode."""
        config = self.directory / "config"
        server = f"fleet.local:{self.fleet.nodes}"
        self.edgevirt(
            *("fleet", "node-config", str(config), "--data", str(self.fleet.data)),
            *("--server", server, "--serial", SERIAL),
        )
        certificate = (config / "onboard.cert.pem").read_text()
        key = {"certificate": certificate, "serials": [SERIAL], "autoApprove": True}
        self.fleet.create("OnboardingKey", "key", key)
        properties = {"timer.config.interval": "5", "timer.metric.interval": "5"}
        self.fleet.create("EdgeNode", NODE, {"serial": SERIAL, "properties": properties})
        url = f"docker://registry.local:{self.registry_port}"
        self.fleet.create("Datastore", "registry", {"type": "OCIRegistry", "url": url})
        network = {"type": "Local", "port": "uplink", "subnet": SUBNET}
        self.fleet.create("NetworkInstance", "apps", network)

    def start_node(self) -> None:
        """Returns when this machine can reach it."""
        self.launch_node()
        eventually("the node starts", lambda: self.node.init)
        eventually("it is connected", lambda: self.address)

    def launch_node(self) -> None:
        forwards = (self.fleet.nodes, self.registry_port, self.private_port)
        command = [
            *(sys.executable, "-m", "edgevirt", "node", "run", "--state", str(self.state)),
            *("--config", str(self.directory / "config"), "--serial", SERIAL, "--name", NODE),
            *("--host", "fleet.local", "--host", "registry.local", "--pace", str(PACE)),
        ]
        for port in forwards:
            command += ["--forward", f"{port}:{port}"]
        with (self.directory / "node.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.node = Node(process, self.state)

    def stop_node(self) -> None:
        """As told; it must end by itself."""
        process = self.node.process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(PATIENCE) == 0, self.tails()
            finally:
                process.kill()
                process.wait()

    def edgevirt(self, *arguments: str) -> str:
        """The command, as people type it; returns what it prints."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgevirt", *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self.fleet.kubeconfig)}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=60
        )

    # -- apps --

    def push(
        self,
        name: str,
        marker: str = "",
        registry: str = "",
        login: tuple[str, str] = ("", ""),
        architecture: str = "",
    ) -> str:
        """The probe: a web server that runs scripts. `marker`: makes it another image.
        `architecture`: other than this machine's.
        """
        where = registry or self.registry.host
        return asyncio.run(self._push(name, marker, where, login, architecture))

    async def _push(
        self, name: str, marker: str, registry: str, login: tuple[str, str], architecture: str
    ) -> str:
        layers = [pack_layer(self._probe(), self.directory / "probe.tgz")]
        if marker:
            extra = self.directory / f"marker-{marker}"
            (extra / "etc").mkdir(parents=True, exist_ok=True)
            (extra / "etc/marker").write_text(marker)
            layers.append(pack_layer(extra, self.directory / f"{marker}.tgz"))
        config = ImageConfig(entrypoint=("/bin/probe",), env=("PATH=/bin",))
        pusher = Pusher(registry, *login)
        try:
            here = platform_of(architecture) if architecture else None
            return str(await pusher.push(make_image(layers, config, here), name))
        finally:
            await pusher.close()

    def _probe(self) -> Path:
        root = self.directory / "probe"
        if root.exists():
            return root
        for folder in ("bin", "data", "dev", "etc", "proc", "sys", "tmp", "www/cgi-bin"):
            (root / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in APPLETS.split():
            (root / "bin" / applet).symlink_to("busybox")
        for path, text in (("bin/probe", START), ("www/cgi-bin/run", RUN)):
            (root / path).write_text(text)
            (root / path).chmod(0o755)
        (root / "www/index.html").write_text("here\n")
        return root

    def add_image(self, name: str, reference: str, **spec: Any) -> None:
        spec = {"datastoreRefs": [{"name": "registry"}], "reference": reference, **spec}
        self.fleet.create("Image", name, spec)

    def add_app(self, name: str, image: str = "probe", port: int = 0, **spec: Any) -> int:
        """An App and its instance on the node; returns the node's port that leads to it.

        Unless told otherwise it is on the node's own kernel, where it starts in a moment.
        """
        port = port or next(self._ports)
        ports = [{"protocol": "TCP", "nodePort": port, "appPort": 80}]
        interface = {"name": "eth0", "networkInstance": "apps", "ports": ports}
        volume = {"name": "data", "size": "16Mi", "mountPath": "/data"}
        app = {
            "image": image,
            "resources": {"cpu": 1, "memory": "32Mi"},
            "interfaces": [interface],
            "volumes": [volume],
            "virtualization": "None",
            **spec,
        }
        self.fleet.create("App", name, app)
        self.fleet.create("AppInstance", name, {"app": name, "edgeNode": NODE})
        return port

    def remove_app(self, name: str) -> None:
        self.fleet.delete("AppInstance", name)
        self.fleet.delete("App", name)

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}/"

    @property
    def address(self) -> str:
        """The node's, as this machine reaches it; empty: it has none (yet)."""
        now, init = time.monotonic(), self.node.init
        seen_at, seen, address = self._seen
        if now - seen_at > FRESH or seen != init or not address:
            show = [
                "nsenter",
                "-t",
                str(init),
                "-n",
                "ip",
                "-4",
                "-o",
                "addr",
                "show",
                "dev",
                "eth0",
            ]
            said = subprocess.run(show, capture_output=True, text=True, check=False).stdout.split()
            self._seen = (now, init, said[3].partition("/")[0] if said else "")
        return self._seen[2]

    def run(self, port: int, script: str) -> str:
        """What a script says that an app runs; empty while the app does not answer."""
        return read(self.url(port) + "cgi-bin/run", script).strip()

    def starts(self, port: int) -> int:
        """How often the app was started on its present volume; 0 while it does not answer."""
        return int(self.run(port, "wc -l </data/starts") or 0)

    def app(self, name: str) -> Object:
        """The status of an AppInstance."""
        return self.fleet.status("AppInstance", name)

    def app_state(self, name: str) -> str:
        found: str = self.app(name).get("state", "")
        return found

    def troubles(self, name: str) -> list[Object]:
        found: list[Object] = self.app(name).get("errors", [])
        return found

    def app_id(self, name: str) -> str:
        found: str = self.fleet.get("AppInstance", name)["metadata"]["uid"]
        return found

    # -- what the kernel knows of the node --

    def processes(self) -> dict[int, str]:
        """All processes of the node and their names."""
        found: dict[int, str] = {}
        queue = [self.node.process.pid]
        while queue:
            pid = queue.pop()
            found[pid] = name_of(pid)
            queue += children_of(pid)
        return found

    def pids(self, name: str) -> list[int]:
        return [pid for pid, found in self.processes().items() if found == name]

    def app_process(self, name: str) -> int:
        """The first process of an app; 0 while it doesn't run."""
        wanted = f"-user-apps/{self.app_id(name)}"
        for pid in self.processes():
            with contextlib.suppress(OSError):
                member = wanted in Path(f"/proc/{pid}/cgroup").read_text()
                if member and status(pid, "NSpid")[-1:] == ["1"]:
                    return pid
        return 0

    def monitor(self, name: str) -> int:
        """The conmon of an app; 0 while there is none."""
        wanted = self.app_id(name)
        for pid in self.pids("conmon"):
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{pid}/cmdline").read_text():
                    return pid
        return 0

    def kept(self, what: str) -> set[str]:
        """Names of the files or directories that the node keeps of `blobs`, `layers`, …"""
        names = os.listdir(self.state / "persist/vault/data" / what)
        return {name.partition(".")[0] for name in names} - {""}

    def holds(self, text: bytes) -> list[Path]:
        """Files on the node's disk that have it."""
        files = (path for path in (self.state / "persist").rglob("*") if path.is_file())
        return [path for path in files if text in path.read_bytes()]

    # -- when it fails, and when it ends --

    def tails(self, lines: int = 25) -> str:
        """The ends of all logs."""
        files = [self.fleet.directory / "fleet.log", self.directory / "node.log"]
        if init := self.node.init:
            files += sorted(Path(f"/proc/{init}/root/{HOME}/run/logs").glob("*.log"))
        found = []
        for path in files:
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace").replace("\0", "").splitlines()
                found.append(f"-- {path.name}\n" + "\n".join(text[-lines:]))
        return "\n".join(found)

    def left(self, seconds: float = PATIENCE) -> list[str]:
        """What is there of the node after its end: processes, mounts, groups, links, filters."""
        deadline = time.monotonic() + seconds
        while (found := traces(self.state)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def traces(state: Path) -> list[str]:
    """What this machine has of the node in that state directory."""
    found = leftovers(state)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = subprocess.run(["losetup", "-l"], capture_output=True, text=True, check=True).stdout
    found += [line for line in (*mounts, *loops.splitlines()) if str(state) in line]
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _is_of(entry, state):
                found.append(f"process {entry.name}: {name_of(int(entry.name))}")
    return found


def _is_of(process: Path, state: Path) -> bool:
    """By its control group, and its command: not all are in a group of the node's."""
    return (
        group_of(state) in (process / "cgroup").read_text()
        or os.fsencode(state) in (process / "cmdline").read_bytes()
    )


@contextlib.contextmanager
def whole_system(directory: Path) -> Iterator[System]:
    """Registry, fleet and node; at the end nothing of the node may be left."""
    fleet = NamedFleet(_made(directory / "controller"))
    fleet.start()
    try:
        with docker_registry(directory / "registry") as registry:
            system = System(directory, fleet, registry, free_port())
            system.configure()
            system.push("probe:1.0")
            system.add_image("probe", "probe:1.0")
            system.start_node()
            try:
                yield system
            finally:
                system.stop_node()
                left = system.left()
                if left:  # a test killed it and failed: its next start cleans up
                    system.start_node()
                    system.stop_node()
        assert left == []
    finally:
        fleet.stop()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
