"""Attestation: certificates, nonce, quote, escrow; in the end a token that config requests bring.

A machine without a security module goes the same way with an empty quote, and is believed as far as
its software key goes. One that has sent a quote certificate must quote from then on. A certificate
that it sent once is not replaced by another one, unless it was declared mutable.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.amend import amend
from edgevirt.fleet.device import quote, replies
from edgevirt.fleet.device.registry import Registry
from edgevirt.fleet.device.replies import Response
from edgevirt.fleet.devices import (
    DEVICE,
    DEVICE_TRUST,
    DeviceTrust,
    HeldCert,
    HeldKey,
    device_key,
)
from edgevirt.fleet.events import Recorder
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base import Condition, set_condition
from edgevirt.fleet.objects.edgenode import EdgeNode
from edgevirt.runtime import Clock, Store
from edgevirt.wire import certificates
from edgevirt.wire.certificates import CertificateError
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.limits import NONCE_MAX
from edgevirt.wire.messages import attest, certs

_MAX_CERTS: Final = 16
_MAX_ESCROW: Final = 16
_ROLES: Final[dict[int, str]] = {
    certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING: "quote",
    certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA: "endorsement",
    certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE: "key exchange",
}


class Attestation:
    """One per process. Nonces are in memory: after a restart machines ask for new ones."""

    def __init__(
        self, store: Store, registry: Registry, ring: KeyRing, events: Recorder, clock: Clock
    ) -> None:
        self._store = store
        self._registry = registry
        self._ring = ring
        self._events = events
        self._clock = clock
        self._nonces: dict[bytes, bytes] = {}

    async def answer(self, row: int, request: attest.ZAttestReq) -> Response:
        """`row`: the machine's in the registry."""
        if request.reqType == attest.ATTEST_REQ_CERT:
            return await self._take_certs(row, request.certs)
        if request.reqType == attest.ATTEST_REQ_NONCE:
            return self._give_nonce(row)
        if request.reqType == attest.ATTEST_REQ_QUOTE:
            return await self._judge(row, request.quote)
        if request.reqType == attest.Z_ATTEST_REQ_TYPE_STORE_KEYS:
            return await self._keep_keys(row, request.storage_keys)
        return replies.BAD_REQUEST

    # -- certificates --

    async def _take_certs(self, row: int, sent: Iterable[certs.ZCert]) -> Response:
        try:
            wanted = [_held(cert) for cert in sent]
        except WireError:
            return replies.UNPROCESSABLE
        if not wanted or len(wanted) > _MAX_CERTS:
            return replies.UNPROCESSABLE
        key = device_key(self._registry.node(row))
        refused: list[HeldCert] = []

        def edit(present: DeviceTrust | None) -> DeviceTrust | None:
            refused.clear()
            held = {cert.type: cert for cert in (present.certs if present else ())}
            for cert in wanted:
                old = held.get(cert.type)
                if old is not None and old.pem != cert.pem and not old.mutable:
                    refused.append(cert)
                held[cert.type] = cert
            if refused or (present is not None and tuple(held.values()) == present.certs):
                return None
            kept = tuple(held.values())
            return DeviceTrust(kept, present.escrow if present else ())

        trust = await amend(self._store, DEVICE_TRUST, key, edit)
        if refused:
            await self._warn(row, "CertificateRefused", _refusal(refused))
            return replies.FORBIDDEN
        assert trust is not None
        await self._note_exchange(key, trust.value)
        return self._reply(attest.ZAttestResponse(respType=attest.ATTEST_RESP_CERT))

    async def _note_exchange(self, key: str, trust: DeviceTrust) -> None:
        exchange = _find(trust, certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE)
        cert_hash = exchange.cert_hash if exchange else b""
        changed = await amend(
            self._store,
            DEVICE,
            key,
            lambda device: (
                msgspec.structs.replace(device, exchange_hash=cert_hash)
                if device and device.exchange_hash != cert_hash
                else None
            ),
        )
        if changed is not None:
            self._registry.add(changed.value)

    # -- nonce and quote --

    def _give_nonce(self, row: int) -> Response:
        nonce = self._nonces[self._registry.node(row)] = secrets.token_bytes(NONCE_MAX)
        return self._reply(
            attest.ZAttestResponse(
                respType=attest.ATTEST_RESP_NONCE, nonce=attest.ZAttestNonceResp(nonce=nonce)
            )
        )

    async def _judge(self, row: int, sent: attest.ZAttestQuote) -> Response:
        node = self._registry.node(row)
        nonce = self._nonces.pop(node, b"")
        found = await self._store.get(DEVICE_TRUST, device_key(node))
        trust = found.value if found is not None else DeviceTrust()
        held = _find(trust, certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING)
        if held is None and not sent.attestData:
            return await self._believe(row, trust, "SoftwareKey", "it has no security module")
        if held is None:
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_NO_CERT_FOUND)
        try:
            _check(sent, held, nonce)
        except quote.NonceError:
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_NONCE_MISMATCH)
        except quote.QuoteError as error:
            await self._doubt(row, str(error))
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_QUOTE_FAILED)
        return await self._believe(row, trust, "Attested", "its security module proved its state")

    async def _believe(self, row: int, trust: DeviceTrust, level: str, why: str) -> Response:
        if not await self._renew_token(row):
            return replies.UNAVAILABLE  # it was just deleted; the next request is refused
        await self._show(row, level, why)
        response = attest.ZAttestResponse(respType=attest.ATTEST_RESP_QUOTE_RESP)
        response.quoteResp.response = attest.Z_ATTEST_RESPONSE_CODE_SUCCESS
        response.quoteResp.integrity_token = self._registry.token(row)
        for held in trust.escrow:
            response.quoteResp.keys.add().ParseFromString(held.key)
        return self._reply(response)

    async def _doubt(self, row: int, why: str) -> None:
        await self._renew_token(row)
        await self._show(row, "Untrusted", why)
        await self._warn(row, "AttestationFailed", why)

    async def _renew_token(self, row: int) -> bool:
        """The token before is worth nothing from then on. False: there is no such machine."""
        device = await amend(
            self._store,
            DEVICE,
            device_key(self._registry.node(row)),
            lambda old: msgspec.structs.replace(old, attested=old.attested + 1) if old else None,
        )
        if device is not None:
            self._registry.add(device.value)
        return device is not None

    async def _show(self, row: int, level: str, why: str) -> None:
        now = self._clock.now()
        believed = level != "Untrusted"
        condition = Condition(
            type="Attested",
            status="True" if believed else "False",
            reason=level,
            message=why,
        )

        def edit(node: EdgeNode | None) -> EdgeNode | None:
            if node is None:
                return None
            conditions = set_condition(node.status.conditions, condition, now)
            status = msgspec.structs.replace(node.status, conditions=conditions, trust=level)
            return msgspec.structs.replace(node, status=status)

        await amend(self._store, kinds.EDGE_NODE, self._registry.name(row), edit)

    async def _warn(self, row: int, reason: str, message: str) -> None:
        node = await self._store.get(kinds.EDGE_NODE, self._registry.name(row))
        if node is not None:
            await self._events.tell("EdgeNode", node.value, reason, message, warning=True)

    # -- escrow --

    async def _keep_keys(self, row: int, sent: attest.AttestStorageKeys) -> Response:
        token = self._registry.token(row)
        response = attest.ZAttestResponse(respType=attest.Z_ATTEST_RESP_TYPE_STORE_KEYS)
        if not token or not hmac.compare_digest(sent.integrity_token, token):
            response.storage_keys_resp.response = (
                attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_ITOKEN_MISMATCH
            )
            return self._reply(response)
        if len(sent.keys) > _MAX_ESCROW:
            return replies.UNPROCESSABLE
        escrow = tuple(HeldKey(key.key_type, key.SerializeToString()) for key in sent.keys)
        await amend(
            self._store,
            DEVICE_TRUST,
            device_key(self._registry.node(row)),
            lambda trust: DeviceTrust(trust.certs if trust else (), escrow),
        )
        response.storage_keys_resp.response = attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_SUCCESS
        return self._reply(response)

    # -- replies --

    def _quote_reply(self, code: attest.ZAttestResponseCode) -> Response:
        response = attest.ZAttestResponse(respType=attest.ATTEST_RESP_QUOTE_RESP)
        response.quoteResp.response = code
        return self._reply(response)

    def _reply(self, response: attest.ZAttestResponse) -> Response:
        sealed = self._ring.keys.seal(response.SerializeToString())
        return Response(HTTPStatus.CREATED, sealed)


def _held(cert: certs.ZCert) -> HeldCert:
    """Raises WireError for a certificate that could never be used for what it is sent for."""
    if cert.type not in _ROLES:
        raise CertificateError(Reason.BAD_LIST, f"cannot take certificate: type {cert.type}")
    loaded = certificates.load_pem(cert.cert)
    if cert.type != certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA:
        key = certificates.public_key_of(loaded)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise CertificateError(
                Reason.BAD_KEY, "cannot take certificate: its key is not of P-256"
            )
    name = cert.certHash or certificates.short_pem_hash(cert.cert)
    return HeldCert(cert.type, name, cert.cert, cert.attributes.is_mutable)


def _find(trust: DeviceTrust, role: int) -> HeldCert | None:
    return next((cert for cert in trust.certs if cert.type == role), None)


def _refusal(refused: list[HeldCert]) -> str:
    roles = ", ".join(_ROLES[cert.type] for cert in refused)
    return f"the machine sent another certificate than before, for: {roles}"


def _check(sent: attest.ZAttestQuote, held: HeldCert, nonce: bytes) -> None:
    if not nonce:
        raise quote.NonceError("cannot trust quote: no nonce was asked for")
    if not sent.attestData:
        raise quote.QuoteError("cannot trust quote: it is empty, though the machine can quote")
    key = certificates.public_key_of(certificates.load_pem(held.pem))
    assert isinstance(key, ec.EllipticCurvePublicKey)  # checked when it came
    values = {
        pcr.index: pcr.value
        for pcr in sent.pcr_values
        if pcr.hash_algo == attest.TPM_HASH_ALGO_SHA256
    }
    quote.check(sent.attestData, sent.signature, values, key, nonce)
