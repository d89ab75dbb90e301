"""What the fleet's benches share: a fleet with many nodes, requests signed beforehand, a meter.

Nodes are seeded by writing what enrolment would have written; 512 keys serve any number of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httptools
import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.devices import DEVICE, Device
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec, EdgeNodeStatus
from edgevirt.runtime import RealClock
from edgevirt.runtime.transaction import open_engine
from edgevirt.wire import envelope, signatures
from edgevirt.wire.messages import config, info

KEYS = 512
START_SECONDS = 60.0


class Node(msgspec.Struct, frozen=True):
    """A seeded machine, as its client needs it."""

    id: str
    cert_hash: bytes
    key: int
    token: bytes


def make_keys() -> list[ec.EllipticCurvePrivateKey]:
    return [ec.generate_private_key(ec.SECP256R1()) for _ in range(KEYS)]


def seed(data: Path, count: int, keys: Sequence[ec.EllipticCurvePrivateKey]) -> list[Node]:
    """Writes `count` enrolled, attested nodes into a new data directory."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    ring = KeyRing(data / "keys", ("localhost", "127.0.0.1"), RealClock())
    packed = [signatures.pack_key(key.public_key()) for key in keys]
    nodes, rows = [], []
    for number in range(count):
        node, uid = os.urandom(16), str(uuid.UUID(bytes=os.urandom(16)))
        name, text = f"node-{number:06}", str(uuid.UUID(bytes=node))
        device = Device(
            node=node,
            cert_hash=os.urandom(32),
            key=packed[number % KEYS],
            edge_node=f"default/{name}",
            uid=uid,
            serial=name,
            attested=1,
        )
        rows.append((DEVICE.name, text, 2 * number + 1, DEVICE.encode(device)))
        edge_node = kinds.EDGE_NODE.encode(_object(name, uid, device))
        rows.append((kinds.EDGE_NODE.name, device.edge_node, 2 * number + 2, edge_node))
        token = ring.keys.integrity_token(node, 1)
        nodes.append(Node(text, device.cert_hash, number % KEYS, token))
    _insert(data / "fleet.db", rows)
    return nodes


def _insert(database: Path, rows: Sequence[tuple[str, str, int, bytes]]) -> None:
    """Rows of the store's own table; one by one through the store would take minutes."""
    open_engine(f"sqlite:///{database}").dispose()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany("INSERT INTO resource VALUES (?, ?, ?, ?)", rows)
        connection.execute("UPDATE counter SET version = ?", (len(rows),))


def _object(name: str, uid: str, device: Device) -> EdgeNode:
    return EdgeNode(
        metadata=ObjectMeta(
            name=name,
            namespace="default",
            uid=uid,
            generation=1,
            creation_timestamp="2026-01-01T00:00:00Z",
            labels={"site": f"site-{uid[:2]}"},
        ),
        spec=EdgeNodeSpec(serial=name),
        status=EdgeNodeStatus(
            node_id=str(uuid.UUID(bytes=device.node)),
            fingerprint=device.cert_hash.hex(),
            device_certificate="-----BEGIN CERTIFICATE-----\n" + "M" * 600,
            phase="Online",
        ),
    )


# -- the fleet's process --


class Server:
    """A fleet process, on one core where there are several."""

    def __init__(self, data: Path) -> None:
        self.port, operators = _free_port(), _free_port()
        self.root_file = data / "keys" / "root-certificate.pem"
        self._log = (data.parent / "fleet.log").open("wb")
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edgevirt", "fleet", "run", "--data", str(data)),
                *("--nodes", f"127.0.0.1:{self.port}", "--operators", f"127.0.0.1:{operators}"),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self._process.pid, {0})

    def cpu(self) -> float:
        """Seconds of all its threads so far, by the kernel's own count of nanoseconds."""
        total = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def pss(self) -> int:
        """Bytes of memory, what is shared with others in proportion."""
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel tells no PSS")

    def check(self) -> None:
        if self._process.poll() is not None:
            raise AssertionError(f"the fleet ended: {Path(self._log.name).read_text()[-2_000:]}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


@contextlib.contextmanager
def serving(data: Path) -> Iterator[Server]:
    server = Server(data)
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- requests --


def post(path: str, body: bytes, *, close: bool = False) -> bytes:
    lines = [
        f"POST /api/v2/edgedevice{path} HTTP/1.1",
        "Host: localhost",
        "User-Agent: Go-http-client/1.1",
        f"Content-Length: {len(body)}",
        "Content-Type: application/x-proto-binary",
        "X-Request-Id: 7b0e4a4e-6a55-4fd8-9a2e-4b6dfbb45dcb",
        "Accept-Encoding: gzip",
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Signer:
    """Requests of seeded nodes."""

    def __init__(self, keys: Sequence[ec.EllipticCurvePrivateKey]) -> None:
        self._keys = keys

    def config(self, node: Node, known: str, *, close: bool = False) -> bytes:
        request = config.ConfigRequest(configHash=known, integrity_token=node.token)
        return self._post(node, "config", request.SerializeToString(), close)

    def info(self, node: Node, at: float) -> bytes:
        """About an app that nobody wants, of 216 bytes: what is measured is keeping it."""
        message = info.ZInfoMsg(ztype=info.ZiApp, devId=node.id)
        message.atTimeStamp.seconds, message.atTimeStamp.nanos = int(at), int(at % 1 * 1e9)
        message.ainfo.AppID, message.ainfo.AppName = node.id, "x" * 100
        message.ainfo.state = info.RUNNING
        return self._post(node, "info", message.SerializeToString(), False)

    def _post(self, node: Node, path: str, payload: bytes, close: bool) -> bytes:
        sealed = envelope.seal(payload, self._keys[node.key], node.cert_hash)
        return post(f"/id/{node.id}/{path}", sealed, close=close)


# -- the load: a process of its own, on another core --


@dataclass
class Outcome:
    """What a load came to. `statuses`: how often each. `bodies`: of the replies, if wanted."""

    requests: int
    seconds: float
    cpu: float
    statuses: dict[int, int]
    bodies: dict[int, bytes]

    @property
    def micros(self) -> float:
        """Server CPU per request."""
        return self.cpu / self.requests * 1e6


class _Peer(asyncio.Protocol):
    """One connection, one request after the other, until there are no more."""

    def __init__(self, load: _Load) -> None:
        self._load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def _next(self) -> None:
        self._number = self._load.take()
        self._body: list[bytes] = []
        if self._number < 0:
            self._transport.close()
        else:
            self._transport.write(self._load.requests[self._number])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._load.note(self._number, self._parser.get_status_code(), b"".join(self._body))
        if self._load.reconnect:
            self._transport.close()
            self._load.dial()
        else:
            self._parser = httptools.HttpResponseParser(self)
            self._next()


class _Load:
    def __init__(
        self, port: int, context: ssl.SSLContext, requests: Sequence[bytes], *, reconnect: bool
    ) -> None:
        self.requests = requests
        self.reconnect = reconnect
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self._port = port
        self._context = context
        self._taken = self._done = 0
        self._loop = asyncio.get_running_loop()
        self._dials: set[asyncio.Task[object]] = set()
        self.failure: BaseException | None = None
        self.finished = asyncio.Event()

    def take(self) -> int:
        number = self._taken
        self._taken += 1
        return number if number < len(self.requests) else -1

    def note(self, number: int, status: int, body: bytes) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if body:
            self.bodies[number] = body
        self._done += 1
        if self._done == len(self.requests):
            self.finished.set()

    def dial(self) -> None:
        if self._taken < len(self.requests):
            connecting = self._loop.create_connection(
                lambda: _Peer(self), "localhost", self._port, ssl=self._context
            )
            task = self._loop.create_task(connecting)
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    def _dialled(self, task: asyncio.Task[object]) -> None:
        self._dials.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.finished.set()


def drive(
    server: Server, requests: Sequence[bytes], *, connections: int, reconnect: bool = False
) -> Outcome:
    """Sends each request once; every connection has one on its way."""

    async def run() -> Outcome:
        context = ssl.create_default_context(cafile=str(server.root_file))
        load = _Load(server.port, context, requests, reconnect=reconnect)
        began, cpu = time.monotonic(), server.cpu()
        for _ in range(connections):
            load.dial()
        await asyncio.wait_for(load.finished.wait(), 60)
        if load.failure is not None:
            raise load.failure
        used, seconds = server.cpu() - cpu, time.monotonic() - began
        return Outcome(len(requests), seconds, used, load.statuses, load.bodies)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def wait_until_ready(server: Server, signer: Signer, node: Node) -> float:
    """Seconds from the start of the process to its first answer with a config."""
    request = signer.config(node, "")
    while time.monotonic() < server.began + START_SECONDS:
        server.check()
        with contextlib.suppress(OSError, TimeoutError):
            if 200 in drive(server, [request], connections=1).statuses:
                return time.monotonic() - server.began
        time.sleep(0.01)
    raise AssertionError(f"no config within {START_SECONDS} s")


def settle(server: Server) -> None:
    """Waits until what follows from earlier requests is done: it is not the next ones' cost."""
    for _ in range(100):
        before = server.cpu()
        time.sleep(0.1)
        if server.cpu() - before < 0.005:
            return


def learn_hashes(server: Server, signer: Signer, nodes: Sequence[Node]) -> list[str]:
    """Every node's first poll."""
    outcome = drive(server, [signer.config(node, "") for node in nodes], connections=8)
    assert outcome.statuses == {200: len(nodes)}, outcome.statuses
    hashes = []
    for number in range(len(nodes)):
        payload = envelope.open_envelope(outcome.bodies[number], 1 << 20).payload
        hashes.append(config.ConfigResponse.FromString(payload).configHash)
    return hashes
