"""The agent with the trust service, against a controller that does as a test says.

Real parts: HTTPS on the loopback, envelopes, certificates, keys. Time is virtual, so that a night
without a controller takes a moment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message

from edgevirt.model import kinds
from edgevirt.model.node import AgentStatus
from edgevirt.node import agent, trust
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service, Settings
from edgevirt.runtime import Kind, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import certificates, envelope
from edgevirt.wire.certificates import Issuer, Validity
from edgevirt.wire.controller_certs import publish
from edgevirt.wire.messages import attest, identity, info, metrics, register
from edgevirt.wire.messages import config as configs

T = TypeVar("T")
M = TypeVar("M", bound=Message)

NODE = "0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11"
BASE = "/api/v2/edgedevice"
VALIDITY = Validity(datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC))
START = 1_800_000_000.0
STEP = 0.5
"""Virtual seconds for each look at the world."""


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


Reply = tuple[int, bytes]
"""Status and body."""


@dataclass(frozen=True)
class Asked:
    """One request as the controller got it; `at`: virtual time."""

    path: str
    payload: bytes
    at: float


@dataclass
class Controller:
    """`answers`: by the end of a path, statuses for the next requests, instead of what is right.

    What it gets it keeps; signatures are checked with the certificate that registered.
    """

    clock: VirtualClock
    config: configs.EdgeDevConfig = field(default_factory=configs.EdgeDevConfig)
    config_hash: str = ""
    same_hash_with_200: bool = False
    attested: bool = True
    offered: configs.EdgeDevConfig | None = None
    """What its refusals bring."""
    token: bytes = b"token-1"
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, deque[int]] = field(default_factory=dict)
    tamper: bool = False
    mute: tuple[str, ...] = ()
    """Ends of paths that get no answer at all."""
    device: bytes = b""
    connections: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.root_key = new_key()
        self.root = certificates.make_root("root", self.root_key, VALIDITY)
        self.rotate()

    def rotate(self) -> None:
        """Another signing certificate, from now on."""
        issuer = Issuer(self.root, self.root_key)
        self.signing_key = new_key()
        signing = certificates.make_signing(
            "signing", self.signing_key.public_key(), issuer, VALIDITY
        )
        self.signing_pem = certificates.to_pem(signing)
        exchange = certificates.make_exchange("ecdh", new_key().public_key(), issuer, VALIDITY)
        self.certs = publish(self.signing_pem, [certificates.to_pem(exchange)])

    def tls_pair(self) -> bytes:
        key = new_key()
        issuer = Issuer(self.root, self.root_key)
        made = certificates.make_server(["127.0.0.1"], key.public_key(), issuer, VALIDITY)
        return private_pem(key) + certificates.to_pem(made)

    def want(self, version: str, **changes: Any) -> None:
        """A new config."""
        self.config.id.uuid = NODE
        self.config.id.version = version
        for name, value in changes.items():
            setattr(self.config, name, value)
        self.config_hash = f"hash of {version}"

    def times(self, end: str) -> list[float]:
        return [asked.at for asked in self.asked if asked.path.endswith(end)]

    def told(self, end: str, kind: type[M]) -> list[M]:
        return [kind.FromString(a.payload) for a in self.asked if a.path.endswith(end)]

    # -- as a server --

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept open."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                path = head.split(" ", 2)[1]
                _, mark, length = head.partition("content-length:")
                body = await reader.readexactly(int(length.split()[0]) if mark else 0)
                if path.endswith(self.mute):
                    await asyncio.Event().wait()
                status, answer = self._handle(path, body)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(answer)))
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            writer.transport.abort()

    def _handle(self, path: str, body: bytes) -> Reply:
        where = path.removeprefix(BASE)
        payload = self._open(where, body) if body else b""
        self.asked.append(Asked(where, payload, self.clock.now()))
        for end, statuses in self.answers.items():
            if where.endswith(end) and statuses:
                return statuses.popleft(), b""
        return self._answer(where, payload)

    def _open(self, where: str, body: bytes) -> bytes:
        opened = envelope.open_envelope(body, 1 << 20)
        if where == "/register":
            certificate = certificates.load_pem(envelope.sender_pem(opened))
            message = register.ZRegisterMsg.FromString(opened.payload)
            self.device = base64.b64decode(message.pemCert, validate=True)
        else:
            certificate = certificates.load_pem(self.device)
        assert opened.sender_hash == certificates.der_hash(certificate)
        envelope.verify(certificates.public_key_of(certificate), opened)
        return opened.payload

    def _answer(self, where: str, payload: bytes) -> Reply:
        if where == "/certs":
            return self._sealed(200, self.certs)
        if where == "/register":
            return (201, b"")
        if where == "/uuid":
            return self._sealed(200, identity.UuidResponse(uuid=self.config.id.uuid))
        if where.endswith("/config"):
            return self._config(configs.ConfigRequest.FromString(payload))
        if where.endswith("/attest"):
            return self._attest(attest.ZAttestReq.FromString(payload))
        return (201, b"")

    def _config(self, request: configs.ConfigRequest) -> Reply:
        if not self.attested and request.integrity_token != self.token:
            offered = self.offered
            if offered is None:
                return (403, b"")
            return self._sealed(403, configs.ConfigResponse(config=offered))
        if not self.config_hash:
            return (404, b"")
        if request.configHash == self.config_hash:
            if self.same_hash_with_200:
                same = configs.ConfigResponse(configHash=self.config_hash)
                return self._sealed(200, same)
            return (304, b"")
        answer = configs.ConfigResponse(config=self.config, configHash=self.config_hash)
        return self._sealed(200, answer)

    def _attest(self, request: attest.ZAttestReq) -> Reply:
        answer = attest.ZAttestResponse()
        if request.reqType == attest.ATTEST_REQ_CERT:
            answer.respType = attest.ATTEST_RESP_CERT
        elif request.reqType == attest.ATTEST_REQ_NONCE:
            answer.respType = attest.ATTEST_RESP_NONCE
            answer.nonce.nonce = b"n" * 16
        else:
            answer.respType = attest.ATTEST_RESP_QUOTE_RESP
            answer.quoteResp.response = attest.Z_ATTEST_RESPONSE_CODE_SUCCESS
            answer.quoteResp.integrity_token = self.token
        return self._sealed(201, answer)

    def _sealed(self, status: int, message: Message) -> Reply:
        payload = message.SerializeToString()
        cert_hash = certificates.pem_hash(self.signing_pem)
        body = envelope.seal(payload, self.signing_key, cert_hash)
        if self.tamper:
            body = envelope.seal(payload, new_key(), cert_hash)
        return status, body


@dataclass
class AgentWorld:
    """`run()` starts the agent anew, with the same keys and checkpoint."""

    paths: Paths
    clock: VirtualClock
    controller: Controller
    port: int
    store: MemoryStore = field(default_factory=MemoryStore)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self.store = MemoryStore()
        tasks = [
            asyncio.create_task(self._serve(service)) for service in (trust.SERVICE, agent.SERVICE)
        ]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _serve(self, service: Service) -> None:
        settings = Settings(serial="serial-1", uplink="lo")
        await service.run(Context(service.name, self.store, self.clock, self.paths, settings))

    async def until(self, what: str, condition: Callable[[], Any], patience: float = 3600) -> Any:
        """The first true answer; lets virtual time pass meanwhile, `patience` seconds at most."""
        end = self.clock.now() + patience
        while self.clock.now() < end:
            found = condition()
            if found:
                return found
            await asyncio.sleep(0.001)  # for what is real: sockets
            await self.clock.advance(STEP)
        raise AssertionError(f"not within {patience:.0f} virtual seconds: {what}")

    async def pass_time(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await asyncio.sleep(0.001)
            await self.clock.advance(4 * STEP)

    def values(self, kind: Kind[T]) -> dict[str, T]:
        return {key: item.value for key, item in self.store._table(kind).present.items()}

    @property
    def status(self) -> AgentStatus | None:
        return self.values(kinds.AGENT_STATUS).get("node")

    def infos(self, kind: info.ZInfoTypes) -> list[info.ZInfoMsg]:
        return [m for m in self.controller.told("/info", info.ZInfoMsg) if m.ztype == kind]

    def metrics(self) -> list[metrics.ZMetricMsg]:
        return self.controller.told("/metrics", metrics.ZMetricMsg)


@contextlib.asynccontextmanager
async def agent_world(where: Path, *, other_root: bool = False) -> AsyncIterator[AgentWorld]:
    """`other_root`: the node was given a root that the controller's certificates don't lead to."""
    paths = Paths(where / "config", where / "persist", where / "run", where / "tpm")
    for directory in (paths.config, paths.keys, paths.checkpoint, paths.vaults):
        directory.mkdir(parents=True)
    clock = VirtualClock(START)
    controller = Controller(clock)
    pair = where / "pair.pem"
    pair.write_bytes(controller.tls_pair())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    server = await asyncio.start_server(controller.serve, "127.0.0.1", 0, ssl=tls)
    port: int = server.sockets[0].getsockname()[1]
    root = Controller(clock).root if other_root else controller.root
    paths.root_certificate.write_bytes(certificates.to_pem(root))
    paths.server.write_text(f"127.0.0.1:{port}\n")
    onboarding = new_key()
    made = certificates.make_onboarding("onboarding", onboarding, VALIDITY)
    paths.onboarding_certificate.write_bytes(certificates.to_pem(made))
    paths.onboarding_key.write_bytes(private_pem(onboarding))
    try:
        yield AgentWorld(paths, clock, controller, port)
    finally:
        server.close()
        for task in list(controller.connections):
            task.cancel()
        await asyncio.gather(*controller.connections, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0.01)  # for transports that were aborted
