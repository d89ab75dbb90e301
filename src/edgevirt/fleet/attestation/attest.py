"""Attestation: certificates, nonce, quote, escrow; in the end a token that config requests bring.

A machine without a security module goes the same way with an empty quote, and is believed as far as
its software key goes. One that has sent a quote certificate must quote from then on. The
certificates of its keys are issued by its identity; one that it sent once is not replaced by one
of another key, unless it was declared mutable. What a quote is worth, `trust` decides: keys in
escrow go only to a machine whose quote was granted.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.attestation import quote
from edgevirt.fleet.attestation.trust import Trust
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.devices import (
    DEVICE,
    DEVICE_TRUST,
    DeviceTrust,
    Evidence,
    HeldCert,
    HeldKey,
    device_key,
)
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.replies import Response
from edgevirt.runtime import Clock, Store
from edgevirt.runtime.amend import amend
from edgevirt.wire import certificates
from edgevirt.wire.certificates import CertificateError
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.limits import NONCE_MAX
from edgevirt.wire.messages import attest, certs

_MAX_CERTS: Final = 16
_MAX_ESCROW: Final = 16
_MAX_VERSION: Final = 200
_ROLES: Final[dict[int, str]] = {
    certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING: "quote",
    certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA: "endorsement",
    certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE: "key exchange",
}


class Attestation:
    """One per process. Nonces are in memory: after a restart machines ask for new ones."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        ring: KeyRing,
        trust: Trust,
        events: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._trust = trust
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
            identity = await self._identity_of(row)
            wanted = [_held(cert, identity) for cert in sent]
        except WireError as error:
            await self._warn(row, "CertificateRefused", str(error))
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
                if old is not None and not old.mutable and not _same_key(old, cert):
                    refused.append(cert)
                held[cert.type] = cert
            if refused or (present is not None and tuple(held.values()) == present.certs):
                return None
            return msgspec.structs.replace(present or DeviceTrust(), certs=tuple(held.values()))

        trust = await amend(self._store, DEVICE_TRUST, key, edit)
        if refused:
            await self._warn(row, "CertificateRefused", _refusal(refused))
            return replies.FORBIDDEN
        assert trust is not None
        await self._note_exchange(key, trust.value)
        return self._reply(attest.ZAttestResponse(respType=attest.ATTEST_RESP_CERT))

    async def _identity_of(self, row: int) -> x509.Certificate:
        """Its own certificate, by which it registered."""
        node = await self._store.get(kinds.EDGE_NODE, self._registry.name(row))
        if node is None:
            raise LookupError(f"EdgeNode {self._registry.name(row)} is gone")
        return certificates.load_pem(node.value.status.device_certificate.encode())

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
            return await self._decide(row, None, ())
        if held is None:
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_NO_CERT_FOUND)
        try:
            quoted = _check(sent, held, nonce)
        except quote.NonceError:
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_NONCE_MISMATCH)
        except quote.QuoteError as error:
            await self._trust.doubt(row, str(error))
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_QUOTE_FAILED)
        evidence = _evidence(sent, quoted, self._clock.now())
        return await self._decide(row, evidence, trust.escrow)

    async def _decide(
        self, row: int, evidence: Evidence | None, escrow: Iterable[HeldKey]
    ) -> Response:
        """LookupError, for one that was just deleted, becomes «later»; then it is refused."""
        verdict = await self._trust.judge(row, evidence)
        if not verdict.granted:
            return self._quote_reply(attest.Z_ATTEST_RESPONSE_CODE_QUOTE_FAILED)
        response = attest.ZAttestResponse(respType=attest.ATTEST_RESP_QUOTE_RESP)
        response.quoteResp.response = attest.Z_ATTEST_RESPONSE_CODE_SUCCESS
        response.quoteResp.integrity_token = self._registry.token(row)
        for held in escrow:
            response.quoteResp.keys.add().ParseFromString(held.key)
        return self._reply(response)

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
        if not await self._can_quote(row):
            return replies.FORBIDDEN  # a key that could never be given back is not taken
        escrow = tuple(HeldKey(key.key_type, key.SerializeToString()) for key in sent.keys)
        await amend(
            self._store,
            DEVICE_TRUST,
            device_key(self._registry.node(row)),
            lambda trust: msgspec.structs.replace(trust or DeviceTrust(), escrow=escrow),
        )
        response.storage_keys_resp.response = attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_SUCCESS
        return self._reply(response)

    async def _can_quote(self, row: int) -> bool:
        found = await self._store.get(DEVICE_TRUST, device_key(self._registry.node(row)))
        role = certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING
        return found is not None and _find(found.value, role) is not None

    # -- replies --

    def _quote_reply(self, code: attest.ZAttestResponseCode) -> Response:
        response = attest.ZAttestResponse(respType=attest.ATTEST_RESP_QUOTE_RESP)
        response.quoteResp.response = code
        return self._reply(response)

    def _reply(self, response: attest.ZAttestResponse) -> Response:
        sealed = self._ring.keys.seal(response.SerializeToString())
        return Response(HTTPStatus.CREATED, sealed)


def _held(cert: certs.ZCert, identity: x509.Certificate) -> HeldCert:
    """Raises WireError for a certificate that could never be used for what it is sent for, or of a
    key that the machine's identity does not vouch for.
    """
    if cert.type not in _ROLES:
        raise CertificateError(Reason.BAD_LIST, f"cannot take certificate: type {cert.type}")
    loaded = certificates.load_pem(cert.cert)
    try:
        loaded.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(Reason.BAD_KEY, f"cannot take certificate: {error}") from None
    if cert.type != certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA:  # which the TPM's maker may have issued
        certificates.require_issued_by(loaded, identity)
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


def _same_key(old: HeldCert, new: HeldCert) -> bool:
    """A machine that lost its disk makes certificates anew, for the keys that its TPM kept."""
    keys = (
        certificates.load_pem(held.pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for held in (old, new)
    )
    return old.pem == new.pem or next(keys) == next(keys)


def _refusal(refused: list[HeldCert]) -> str:
    roles = ", ".join(_ROLES[cert.type] for cert in refused)
    return f"the machine sent a certificate of another key than before, for: {roles}"


def _check(sent: attest.ZAttestQuote, held: HeldCert, nonce: bytes) -> dict[int, bytes]:
    """The registers that were quoted. Raises QuoteError."""
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
    quoted = quote.check(sent.attestData, sent.signature, values, key, nonce)
    return {number: values[number] for number in quoted.pcrs}


def _evidence(sent: attest.ZAttestQuote, quoted: dict[int, bytes], now: float) -> Evidence:
    firmware = (
        version.version
        for version in sent.versions
        if version.version_type == attest.ATTEST_VERSION_TYPE_FIRMWARE
    )
    return Evidence(
        at=now,
        quote=sent.attestData,
        signature=sent.signature,
        values=tuple(sorted(quoted.items())),
        log=sent.tpm_binary_event_log,
        firmware=next(firmware, "")[:_MAX_VERSION],
    )
