"""One HTTPS line to the controller: envelopes out, verified envelopes in.

The connection is kept open. The private keys are elsewhere: what is to be signed goes to the trust
service through the store, as a digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edgevirt.model import kinds
from edgevirt.model.node import Identity, Signature, SigningKey, SignRequest
from edgevirt.node.agent.outcome import ACCEPTED, Failure, Untrusted, Unverified, in_words
from edgevirt.node.roots import controller_roots
from edgevirt.node.service import Context
from edgevirt.runtime import Put
from edgevirt.wire import certificates, envelope
from edgevirt.wire.controller_certs import ControllerCerts, verify_controller_certs
from edgevirt.wire.convert.measures import Requests
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import certs

if TYPE_CHECKING:
    import httpx

BASE = "/api/v2/edgedevice"
CONTENT_TYPE = "application/x-proto-binary"
MAX_REPLY = 16 << 20
"""Bytes."""
SIGN_SECONDS = 15.0


class Reply(msgspec.Struct, frozen=True):
    """`body`: the payload, taken out of the verified envelope where one was due."""

    status: int
    body: bytes


class Counts(msgspec.Struct):
    """How the line fared since the start, for the metrics."""

    failures: int = 0
    successes: int = 0
    last_failure: float = 0.0
    last_success: float = 0.0
    unverified: int = 0
    urls: dict[str, Requests] = msgspec.field(default_factory=dict)


class Link:
    """`trusted` is None until the controller's certificates were accepted. `send_seconds`: for one
    exchange as a whole; `dial_seconds`: for the connection alone."""

    def __init__(self, context: Context, identity: Identity) -> None:
        self._context = context
        self._identity = identity
        self.server = context.paths.server.read_text().strip()
        self._http = _client(self.server, controller_roots(context.paths))
        self._waiting: dict[str, asyncio.Future[Signature]] = {}
        self.trusted: ControllerCerts | None = None
        self.counts = Counts()
        self.send_seconds = 120.0
        self.dial_seconds = 10.0

    async def follow_signatures(self) -> None:
        """Never returns: hands the trust service's answers to those who wait."""
        async for event in self._context.store.watch(kinds.SIGNATURE):
            if isinstance(event, Put):
                waiting = self._waiting.pop(event.resource.key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(event.resource.value)

    def trust(self, published: bytes, at: float) -> ControllerCerts:
        """Accepts a list of the controller's certificates, or raises Failure."""
        try:
            listed = certs.ZControllerCert.FromString(published)
            root = self._context.paths.root_certificate.read_bytes()
            self.trusted = verify_controller_certs(listed, root, datetime.fromtimestamp(at, UTC))
        except (WireError, ValueError, OSError) as error:
            raise Untrusted(f"cannot trust the controller's certificates: {error}") from error
        return self.trusted

    async def fetch_certificates(self) -> bytes:
        """The list as published. Its envelope proves nothing; the chain inside does."""
        reply = await self._request("GET", "/certs", b"", "")
        if reply.status != 200:
            raise Failure(f"cannot get certificates: {in_words(reply.status)}", reply.status)
        try:
            return envelope.open_envelope(reply.body, MAX_REPLY).payload
        except WireError as error:
            raise Failure(f"cannot read the controller's certificates: {error}") from error

    async def post(
        self,
        path: str,
        payload: bytes,
        *,
        key: SigningKey = SigningKey.DEVICE,
        sealed: bool = False,
    ) -> Reply:
        """Signs and sends. `sealed`: the answer must be an envelope of the controller's.

        Any status is returned as it came; raises Failure when there is no answer, Unverified
        when it is not the controller's.
        """
        body = await self._seal(payload, key)
        reply = await self._request("POST", path, body, CONTENT_TYPE)
        if not sealed or reply.status not in ACCEPTED or not reply.body:
            return reply
        return replace(reply, body=self._open(reply.body))

    def _open(self, raw: bytes) -> bytes:
        if self.trusted is None:
            raise Unverified(
                "cannot verify the answer: no certificates of the controller", stale=True
            )
        return open_verified(raw, self.trusted)

    async def _seal(self, payload: bytes, key: SigningKey) -> bytes:
        onboarding = key is SigningKey.ONBOARDING
        pem = self._identity.onboarding_cert if onboarding else self._identity.device_cert
        cert_hash = certificates.der_hash(certificates.load_pem(pem.encode()))
        signature = await self._sign(envelope.prepare(payload), key)
        return envelope.assemble(payload, signature, cert_hash, pem.encode() if onboarding else b"")

    async def _sign(self, digest: bytes, key: SigningKey) -> bytes:
        name = uuid.uuid4().hex
        answer: asyncio.Future[Signature] = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        store = self._context.store
        try:
            await store.put(kinds.SIGN_REQUEST, name, SignRequest(key=key, digest=digest))
            async with asyncio.timeout(SIGN_SECONDS):
                signature = await answer
        except TimeoutError:
            raise Failure("cannot sign: the trust service does not answer") from None
        finally:
            self._waiting.pop(name, None)
            await store.delete(kinds.SIGN_REQUEST, name)
        if not signature.rs:
            raise Failure(f"cannot sign: {signature.why}")
        return signature.rs

    # -- transport --

    async def _request(self, method: str, path: str, body: bytes, content_type: str) -> Reply:
        clock = self._context.clock
        began = clock.monotonic()
        try:
            reply = await self._exchange(method, path, body, content_type)
        except Failure:
            self.counts.failures += 1
            self.counts.last_failure = clock.now()
            self._count(path, len(body), None, clock.monotonic() - began)
            raise
        self.counts.successes += 1
        self.counts.last_success = clock.now()
        self._count(path, len(body), reply, clock.monotonic() - began)
        return reply

    async def _exchange(self, method: str, path: str, body: bytes, content_type: str) -> Reply:
        import httpx

        headers = {"X-Request-Id": str(uuid.uuid4())}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            async with asyncio.timeout(self.send_seconds):
                async with self._stream(method, path, body, headers) as response:
                    return Reply(response.status_code, await _bounded(response))
        except TimeoutError:
            raise Failure(
                f"cannot reach {self.server}: no whole answer in {self.send_seconds:.0f} s"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise Failure(f"cannot reach {self.server}: {why}") from error

    @contextlib.asynccontextmanager
    async def _stream(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        import httpx

        async with self._http.stream(
            method,
            BASE + path,
            content=body or None,
            headers=dict(headers),
            timeout=httpx.Timeout(self.send_seconds, connect=self.dial_seconds),
        ) as response:
            yield response

    def _count(self, path: str, sent: int, reply: Reply | None, seconds: float) -> None:
        before = self.counts.urls.get(path, Requests())
        self.counts.urls[path] = replace(
            before,
            tries=before.tries + 1,
            bytes_tried=before.bytes_tried + sent,
            sent=before.sent + (reply is not None),
            bytes_sent=before.bytes_sent + (sent if reply is not None else 0),
            received=before.received + (reply is not None),
            bytes_received=before.bytes_received + (len(reply.body) if reply else 0),
            seconds=before.seconds + seconds,
        )

    async def close(self) -> None:
        await self._http.aclose()


def open_verified(raw: bytes, trusted: ControllerCerts) -> bytes:
    """The payload of an envelope that the controller signed. Raises Unverified."""
    try:
        opened = envelope.open_envelope(raw, MAX_REPLY)
        envelope.require_sender(opened, trusted.signing.cert_hash)
        envelope.verify(trusted.signing.key, opened)
    except WireError as error:
        stale = error.reason is Reason.UNKNOWN_SENDER
        raise Unverified(f"cannot believe the answer: {error}", stale=stale) from error
    return opened.payload


async def _bounded(response: httpx.Response) -> bytes:
    chunks = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_REPLY:
            raise Failure(f"cannot read the answer: more than {MAX_REPLY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _client(server: str, tls: ssl.SSLContext) -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        base_url=f"https://{server}",
        verify=tls,
        limits=httpx.Limits(max_connections=4, keepalive_expiry=300.0),
        trust_env=False,
        follow_redirects=False,
    )
