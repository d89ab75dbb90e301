"""A node as the fleet sees it: keys, signed envelopes, and the exchanges of a life. For tests.

`Device` is pure: it signs. `DeviceClient` speaks for one over HTTPS.
"""

from __future__ import annotations

import base64
import functools
import ssl
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.wire import certificates, controller_certs, envelope, logs
from edgevirt.wire.certificates import Issuer, Validity
from edgevirt.wire.controller_certs import ControllerCerts
from edgevirt.wire.messages import attest, certs, config, identity, info, metrics, register
from tests.parts.measured import Quoting

BASE = "/api/v2/edgedevice"
PROTO = {"Content-Type": "application/x-proto-binary"}
_MAX_REPLY = 1 << 20


def _validity() -> Validity:
    now = datetime.now(UTC)
    return Validity(now - timedelta(days=1), now + timedelta(days=365))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Onboarding:
    """The key that lets machines in."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.certificate = certificates.make_onboarding("onboarding", self.key, _validity())
        self.pem = certificates.to_pem(self.certificate)
        self.cert_hash = certificates.der_hash(self.certificate)

    def seal(self, payload: bytes) -> bytes:
        return envelope.seal(payload, self.key, self.cert_hash, self.pem)


class Device:
    """One machine; with a security module where it is given one."""

    def __init__(
        self,
        serial: str,
        key: ec.EllipticCurvePrivateKey | None = None,
        tpm: Quoting | None = None,
    ) -> None:
        self.serial = serial
        self.tpm = tpm
        self.key = key or new_key()
        self.certificate = certificates.make_device(f"device {serial}", self.key, _validity())
        self.pem = certificates.to_pem(self.certificate)
        self.cert_hash = certificates.der_hash(self.certificate)
        self.exchange_key = new_key()
        exchange = certificates.make_exchange(
            "ecdh", self.exchange_key.public_key(), Issuer(self.certificate, self.key), _validity()
        )
        self.exchange_pem = certificates.to_pem(exchange)

    def seal(self, payload: bytes) -> bytes:
        return envelope.seal(payload, self.key, self.cert_hash)

    def registration(self) -> bytes:
        message = register.ZRegisterMsg(pemCert=base64.b64encode(self.pem), serial=self.serial)
        return message.SerializeToString()

    def certs(self) -> list[certs.ZCert]:
        sent = [certificates.describe(self.exchange_pem, certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE)]
        if self.tpm is not None:
            role = certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING
            sent.append(certificates.describe(self.quote_pem, role))
        return sent

    @functools.cached_property
    def quote_pem(self) -> bytes:
        """Of the key that signs quotes; issued by the machine itself, as the others are."""
        assert self.tpm is not None
        issuer = Issuer(self.certificate, self.key)
        made = certificates.make_exchange("quote", self.tpm.public_key(), issuer, _validity())
        return certificates.to_pem(made)

    def quote(self, nonce: bytes) -> attest.ZAttestQuote:
        return self.tpm.quote(nonce) if self.tpm is not None else attest.ZAttestQuote()


def device_info(at: float, hostname: str = "node") -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiDevice)
    message.atTimeStamp.seconds = int(at)
    message.dinfo.HostName = hostname
    message.dinfo.state = info.ZDEVICE_STATE_ONLINE
    message.dinfo.swList.add(shortVersion="1.2.3", activated=True)
    message.dinfo.memory, message.dinfo.ncpu = 2048, 4
    return message


def metric(at: float, cpu_ns: int = 0) -> metrics.ZMetricMsg:
    message = metrics.ZMetricMsg()
    message.atTimeStamp.seconds = int(at)
    message.dm.cpuMetric.total_ns = cpu_ns
    message.dm.memory.usedMem = 100
    message.dm.memory.availMem = 300
    return message


def bundle(lines: list[str], header: logs.NodeHeader | logs.AppHeader, at: float) -> bytes:
    writer = logs.BundleWriter(header, int(at))
    for number, line in enumerate(lines):
        entry = logs.LogEntry(
            severity="info",
            source="tests",
            content=line,
            msgid=number,
            timestamp=logs.Moment(int(at), number),
        )
        assert writer.add(entry)
    return writer.finish()


class DeviceClient:
    """A machine's line to the fleet. Every reply's envelope is verified as a node does it."""

    def __init__(self, port: int, root_file: Path, device: Device) -> None:
        self.device = device
        self.node_id = ""
        self.token = b""
        self.config_hash = ""
        self._root = root_file.read_bytes()
        context = ssl.create_default_context(cafile=str(root_file))
        self.http = httpx.AsyncClient(
            base_url=f"https://localhost:{port}{BASE}",
            verify=context,
            trust_env=False,
            timeout=30.0,
            limits=httpx.Limits(max_connections=4),
        )
        self.trusted: ControllerCerts | None = None

    async def close(self) -> None:
        await self.http.aclose()

    async def post(self, path: str, body: bytes) -> httpx.Response:
        """`path`: after the base; `{id}` stands for the node's UUID."""
        return await self.http.post(
            path.format(id=self.node_id),
            content=body,
            headers={**PROTO, "X-Request-Id": str(uuid.uuid4())},
        )

    async def send(self, path: str, payload: bytes) -> httpx.Response:
        return await self.post(path, self.device.seal(payload))

    async def fetch_certs(self) -> ControllerCerts:
        reply = await self.http.get("/certs")
        assert reply.status_code == 200
        payload = envelope.open_envelope(reply.content, _MAX_REPLY).payload
        published = certs.ZControllerCert.FromString(payload)
        self.trusted = controller_certs.verify_controller_certs(
            published, self._root, datetime.now(UTC)
        )
        return self.trusted

    async def open(self, sealed: bytes) -> bytes:
        """The payload of a reply; fetches the certificates again when the signer is not known."""
        opened = envelope.open_envelope(sealed, _MAX_REPLY)
        trusted = self.trusted or await self.fetch_certs()
        if opened.sender_hash != trusted.signing.cert_hash:
            trusted = await self.fetch_certs()
        envelope.require_sender(opened, trusted.signing.cert_hash)
        envelope.verify(trusted.signing.key, opened)
        return opened.payload

    async def register(self, onboarding: Onboarding) -> int:
        reply = await self.post("/register", onboarding.seal(self.device.registration()))
        assert reply.content == b""
        return reply.status_code

    async def learn_uuid(self) -> int:
        reply = await self.send("/uuid", identity.UuidRequest().SerializeToString())
        if reply.status_code == 200:
            answer = identity.UuidResponse.FromString(await self.open(reply.content))
            self.node_id = str(uuid.UUID(answer.uuid))
        return reply.status_code

    async def ask(self, request: attest.ZAttestReq) -> attest.ZAttestResponse:
        reply = await self.send("/id/{id}/attest", request.SerializeToString())
        assert reply.status_code == 201, reply
        return attest.ZAttestResponse.FromString(await self.open(reply.content))

    async def show(self, quote: attest.ZAttestQuote) -> attest.ZAttestQuoteResp:
        judged = await self.ask(attest.ZAttestReq(reqType=attest.ATTEST_REQ_QUOTE, quote=quote))
        self.token = judged.quoteResp.integrity_token
        return judged.quoteResp

    async def attest(self) -> attest.ZAttestQuoteResp:
        """All steps. What is refused leaves the machine without a token."""
        taken = await self.ask(
            attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=self.device.certs())
        )
        assert taken.respType == attest.ATTEST_RESP_CERT
        given = await self.ask(attest.ZAttestReq(reqType=attest.ATTEST_REQ_NONCE))
        assert 12 <= len(given.nonce.nonce) <= 32
        return await self.show(self.device.quote(given.nonce.nonce))

    async def escrow(self, key: bytes) -> int:
        """The status of the reply; the node's vault key, as opaque bytes."""
        request = attest.ZAttestReq(reqType=attest.Z_ATTEST_REQ_TYPE_STORE_KEYS)
        request.storage_keys.integrity_token = self.token
        request.storage_keys.keys.add(key_type=attest.ATTEST_VOLUME_KEY_TYPE_VSK, key=key)
        return (await self.send("/id/{id}/attest", request.SerializeToString())).status_code

    async def poll(self) -> tuple[int, config.EdgeDevConfig | None]:
        """Status, and the config when there is a new one."""
        request = config.ConfigRequest(configHash=self.config_hash, integrity_token=self.token)
        reply = await self.send("/id/{id}/config", request.SerializeToString())
        if reply.status_code != 200:
            return reply.status_code, None
        answer = config.ConfigResponse.FromString(await self.open(reply.content))
        assert answer.configHash
        self.config_hash = answer.configHash
        return 200, answer.config

    async def offered(self) -> config.EdgeDevConfig | None:
        """What a refusal of the config brings; None: nothing."""
        reply = await self.send("/id/{id}/config", config.ConfigRequest().SerializeToString())
        assert reply.status_code == 403
        if not reply.content:
            return None
        return config.ConfigResponse.FromString(await self.open(reply.content)).config

    async def report(self, message: info.ZInfoMsg) -> int:
        return (await self.send("/id/{id}/info", message.SerializeToString())).status_code

    async def come_online(self, onboarding: Onboarding) -> config.EdgeDevConfig:
        """From the first word to the first config."""
        await self.fetch_certs()
        assert await self.register(onboarding) in (200, 201)
        assert await self.learn_uuid() == 200
        await self.attest()
        status, received = await self.poll()
        assert status == 200
        assert received is not None
        return received

    async def poll_until_new(self, seconds: float = 90.0) -> config.EdgeDevConfig:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _, received = await self.poll()
            if received is not None:
                return received
        raise AssertionError(f"no new config in {seconds} s")


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
