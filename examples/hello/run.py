"""The main job, on this machine: a fleet, a registry, one edge node, and an app that answers.

`make run` starts it; Ctrl-C ends all of it. `--once` checks the answer and stops: exit 0 or 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from edgevirt.client import Client, ClientError, Object, Refused, load_connection
from edgevirt.image.oci import Pusher, make_image, pack_layer
from edgevirt.model.content import ImageConfig

HERE = Path(__file__).parent
SERIAL = "hello-0001"
APP_PORT = 8080
READY = 60.0
"""Seconds that a program gets to be ready."""
ANSWER = 120.0
"""Seconds that the app gets to answer."""
out = Console(highlight=False)


class Failed(Exception):
    """«cannot X: why», for whoever runs the example."""


class Interrupts:
    """Ctrl-C: once, and never between the start of a program and our knowing of it."""

    def __init__(self) -> None:
        self._asked = False
        self._held = False

    def __call__(self, *_: object) -> None:
        first, self._asked = not self._asked, True
        if first and not self._held:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt


interrupts = Interrupts()


class Job:
    """The programs that were started, ended in reverse."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.logs = state / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str) -> None:
        """In a session of its own: Ctrl-C is for us, and we end it in order."""
        with interrupts.held(), (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._running.append((name, process))

    def check(self) -> None:
        """Raises Failed when a program has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                tail = (self.logs / f"{name}.log").read_text(errors="replace")[-1500:]
                raise Failed(f"cannot go on: the {name} ended ({process.returncode}):\n{tail}")

    def stop(self) -> None:
        for name, process in reversed(self._running):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    out.print(f"  the {name} does not end by itself; killed")
                    process.kill()
                    process.wait()


def edgevirt(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "edgevirt", *arguments)


def free_port(wanted: int) -> int:
    """`wanted` on loopback, or another one when somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found: int = probe.getsockname()[1]
                return found
    raise Failed("cannot find a free port on loopback")


def wait_for(job: Job, what: str, ready: Any) -> None:
    deadline = time.monotonic() + READY
    while not ready():
        job.check()
        if time.monotonic() > deadline:
            raise Failed(f"cannot go on: {what} is not ready after {READY:.0f} s; see {job.logs}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    return False


# -- the steps -------------------------------------------------------------------------------------


def start_registry(job: Job, port: int) -> None:
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(job.state / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(16)},
    }
    path = job.state / "registry.yml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    job.start("registry", "docker-registry", "serve", str(path))
    wait_for(job, "the registry", lambda: answers(f"http://127.0.0.1:{port}/v2/"))


def push_image(port: int) -> str:
    """A web server from Debian's busybox; returns the image's digest."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Failed("cannot make the image: Debian's busybox-static is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        for folder in ("bin", "dev", "proc", "sys", "tmp", "etc", "data", "www/cgi-bin"):
            (root / folder).mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        for applet in ("sh", "wc", "httpd"):
            (root / "bin" / applet).symlink_to("busybox")
        script = root / "www/cgi-bin/index.cgi"
        shutil.copy(HERE / "image/index.cgi", script)
        script.chmod(0o755)
        layer = pack_layer(root, Path(scratch, "layer.tar.gz"))
        config = ImageConfig(
            entrypoint=("/bin/httpd", "-f", "-v", "-p", "80", "-h", "/www"),
            env=("PATH=/bin",),
        )
        image = make_image([layer], config)
        return asyncio.run(_push(image, port))


async def _push(image: Any, port: int) -> str:
    pusher = Pusher(f"127.0.0.1:{port}")
    try:
        return str(await pusher.push(image, "hello:1.0"))
    finally:
        await pusher.close()


def start_fleet(job: Job, nodes: int, operators: int) -> Client:
    data = str(job.state / "fleet")
    kubeconfig = job.state / "kubeconfig"
    where = ("--nodes", f"127.0.0.1:{nodes}", "--operators", f"127.0.0.1:{operators}")
    init = edgevirt("fleet", "init", "--data", data, *where, "--kubeconfig", str(kubeconfig))
    done = subprocess.run(init, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"cannot set up the fleet: {done.stderr.strip()}")
    job.start("fleet", *edgevirt("fleet", "run", "--data", data, *where, "--san", "fleet.local"))
    client = Client(load_connection(kubeconfig))

    def ready() -> bool:
        with contextlib.suppress(ClientError):
            return bool(client.types())
        return False

    wait_for(job, "the fleet", ready)
    return client


def configure_node(job: Job, client: Client, nodes: int) -> Path:
    """What a node is given, once: whom to call, whom to trust, how to ask to be let in."""
    config = job.state / "node-config"
    if not (config / "onboard.key.pem").exists():
        command = edgevirt(
            *("fleet", "node-config", str(config), "--data", str(job.state / "fleet")),
            *("--server", f"fleet.local:{nodes}", "--serial", SERIAL),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"cannot configure the node: {done.stderr.strip()}")
    (config / "server").write_text(f"fleet.local:{nodes}\n")
    key: Object = {
        "apiVersion": "edgevirt.io/v1alpha1",
        "kind": "OnboardingKey",
        "metadata": {"name": "workshop"},
        "spec": {
            "certificate": (config / "onboard.cert.pem").read_text(),
            "serials": [SERIAL],
            "autoApprove": True,
        },
    }
    client.apply(client.type_of("OnboardingKey"), "default", key, force=True)
    return config


def apply_examples(client: Client) -> None:
    for path in sorted(HERE.glob("*.yaml")):
        body = yaml.safe_load(path.read_text())
        client.apply(client.type_of(body["kind"]), "default", body, force=True)
        out.print(f"  {body['kind']}/{body['metadata']['name']}")


def start_node(job: Job, config: Path, nodes: int, registry: int) -> None:
    command = edgevirt(
        *("node", "run", "--state", str(job.state / "node"), "--config", str(config)),
        *("--serial", SERIAL, "--name", "hello-node"),
        *("--host", "fleet.local", "--host", "registry.local"),
        *("--forward", f"{nodes}:{nodes}", "--forward", f"5000:{registry}"),
    )
    job.start("node", *command)


def wait_for_answer(job: Job, client: Client) -> tuple[str, str]:
    """Shows the app's states as they pass; returns the URL and what it answered."""
    deadline = time.monotonic() + ANSWER
    type_ = client.type_of("AppInstance")
    shown = ""
    while time.monotonic() < deadline:
        job.check()
        with contextlib.suppress(Refused):
            status = client.get(type_, "default", "hello").get("status", {})
            told = f"{status.get('state', '')}  {status.get('what', '')}".strip()
            if told and told != shown:
                out.print(f"  hello  {told}")
                shown = told
            if status.get("state") == "RUNNING":
                url = _url(client)
                with contextlib.suppress(httpx.HTTPError):
                    answer = httpx.get(url, timeout=2.0, trust_env=False)
                    if answer.status_code == 200:
                        return url, answer.text.strip()
        time.sleep(0.1)
    raise Failed(
        f"cannot reach the app: no answer in {ANSWER:.0f} s (last state: {shown or 'none'}); "
        f"see {job.logs}"
    )


def _url(client: Client) -> str:
    node = client.get(client.type_of("EdgeNode"), "default", "hello-node")
    addresses = node.get("status", {}).get("addresses") or ["0.0.0.0"]  # noqa: S104
    first = addresses[0]
    host = first["address"] if isinstance(first, dict) else first
    return f"http://{host.split('/')[0]}:{APP_PORT}/"


# -- the whole -------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(state: Path) -> Iterator[Job]:
    job = Job(state)
    try:
        yield job
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # asking twice must not leave half of it running
        out.print("stopping")
        job.stop()


def run(state: Path, once: bool) -> None:
    began = time.monotonic()
    with running(state) as job:
        registry, nodes, operators = free_port(5000), free_port(8443), free_port(6443)
        out.print("[bold]registry[/]: starting, and pushing an image made from Debian's busybox")
        start_registry(job, registry)
        out.print(f"  127.0.0.1:{registry}/hello:1.0 {push_image(registry)[:19]}…")
        out.print("[bold]fleet[/]: starting")
        client = start_fleet(job, nodes, operators)
        config = configure_node(job, client, nodes)
        out.print("[bold]node[/]: starting; it onboards by itself")
        start_node(job, config, nodes, registry)
        out.print("[bold]manifests[/]: applying examples/hello")
        apply_examples(client)
        out.print("[bold]app[/]: waiting for it")
        url, text = wait_for_answer(job, client)
        seconds = time.monotonic() - began
        out.print(f"[bold green]the app answers[/] at {url} ({seconds:.1f} s after the start):")
        out.print(f"  {text}")
        if "hello from hello-node" not in text:
            raise Failed(f"cannot accept the answer: {text!r} does not name the node")
        if not once:
            stay(job, url)


def stay(job: Job, url: str) -> None:
    out.print("\nThings to try, in another terminal:")
    for line in (
        f"export PATH={Path(sys.executable).parent}:$PATH",
        f"export KUBECONFIG={job.state / 'kubeconfig'}",
        f"curl {url}",
        "edgevirt get nodes,instances",
        "edgevirt describe instance hello",
        "edgevirt logs hello -f",
        "edgevirt top apps",
        "edgevirt restart hello",
        "kubectl get appinstances -o wide --watch",
    ):
        out.print(f"  {line}", soft_wrap=True)
    out.print("\nCtrl-C ends all of it.")
    while True:
        time.sleep(0.5)
        job.check()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="check the answer, then stop")
    parser.add_argument("--state", type=Path, default=Path(".run"), help="where data is kept")
    options = parser.parse_args()
    if os.geteuid() != 0:
        out.print("cannot run the example: a node needs root for its namespaces")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores SIGINT
        signal.signal(number, interrupts)
    try:
        run(options.state.resolve(), options.once)
    except KeyboardInterrupt:
        return 0
    except (Failed, ClientError) as error:
        out.print(f"[bold red]failed[/]: {error}", markup=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
