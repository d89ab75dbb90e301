"""Attestation: certificates, nonce, quote, token, and the vault's key (EVE API v2, `attest`).

What is next is decided in `attest_steps`. A machine without a TPM sends an empty quote.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from edgevirt import __version__
from edgevirt.host.machine import readings
from edgevirt.model import kinds
from edgevirt.model.trust import (
    ControllerVaultKey,
    EscrowKey,
    Quote,
    QuoteRequest,
    VaultState,
    VaultStatus,
)
from edgevirt.node.agent.attest_steps import BELIEVED, RESTING, Event, Known, Step, after
from edgevirt.node.agent.outcome import Failure, in_words
from edgevirt.node.agent.state import Line
from edgevirt.runtime import Kind, Put
from edgevirt.wire import certificates
from edgevirt.wire.messages import attest, certs

_log = logging.getLogger(__name__)
RETRY: Final = 15.0
"""Seconds, in every state that waits."""
QUOTE_SECONDS: Final = 60.0
_VAULT: Final = "vault"
_ROLES: Final = (
    ("ecdh_cert", certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE),
    ("quote_cert", certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING),
    ("endorsement_cert", certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA),
)


class Attestation:
    """One for an agent's life. `line.attested`: there is a token that the controller takes."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._store = line.context.store
        self._step = Step.CERTIFICATES
        self._nonce = b""
        self._quote = Quote()
        self._quotes: dict[str, asyncio.Future[Quote]] = {}
        self._own_key = b""
        self._vault: VaultStatus | None = None
        self._word = ControllerVaultKey()

    async def run(self) -> None:
        """Never returns: attests at start, and whenever the controller asks for it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(kinds.QUOTE))
            group.create_task(self._follow(kinds.ESCROW_KEY))
            group.create_task(self._follow(kinds.VAULT_STATUS))
            while True:
                event = await self._do()
                await self._enter(after(self._step, event, self._known))

    # -- what is known --

    @property
    def _known(self) -> Known:
        has_module = bool(self._line.identity.quote_cert)
        waits = self._vault is not None and self._vault.state in (
            VaultState.OPENING,
            VaultState.CLOSED,
            VaultState.ERROR,
        )
        return Known(
            module=has_module,
            key=has_module and bool(self._own_key) and self._digest != self._word.escrowed,
            vault_waits=has_module and waits,
        )

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(self._own_key).digest()

    async def _follow(self, kind: Kind[Any]) -> None:
        async for event in self._store.watch(kind):
            if not isinstance(event, Put):
                continue
            value = event.resource.value
            if isinstance(value, Quote):
                waiting = self._quotes.pop(event.resource.key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(value)
            elif isinstance(value, EscrowKey):
                self._own_key = value.blob
                self._line.attest_bell.ring()
            elif isinstance(value, VaultStatus):
                self._vault = value
                self._line.attest_bell.ring()

    # -- the steps --

    async def _enter(self, step: Step) -> None:
        if step is self._step:
            return
        before, self._step = self._step, step
        self._line.attestation = step
        if step in BELIEVED and before not in BELIEVED:
            self._line.attested, self._line.attest_trouble = True, ""
            await self._line.tell()
            self._line.config_bell.ring()
            _log.info("attested")
        if step in RESTING or step is Step.RESTART:
            self._line.report_device()

    async def _do(self) -> Event:
        if self._step in RESTING:
            await self._line.pause(86_400.0, self._line.attest_bell)
            return Event.NEWS if self._line.attested else Event.ASKED
        if self._step is Step.RESTART:
            await self._line.pause(RETRY, None)
            return Event.DONE
        try:
            await self._act()
        except Failure as failure:
            self._line.attested = False
            self._line.attest_trouble = str(failure)
            _log.warning("%s; again in %.0f s", failure, RETRY)
            return Event.FAILED
        return Event.DONE

    async def _act(self) -> None:
        if self._step is Step.CERTIFICATES:
            await self._send(self._certificates(), attest.ATTEST_RESP_CERT)
        elif self._step is Step.NONCE:
            self._nonce = await self._ask_nonce()
        elif self._step is Step.QUOTE:
            self._quote = await self._ask_quote(self._nonce)
        elif self._step is Step.ATTEST:
            await self._attest()
        else:
            await self._store_key()

    def _certificates(self) -> attest.ZAttestReq:
        identity = self._line.identity
        request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT)
        for name, role in _ROLES:
            pem: str = getattr(identity, name)
            if pem:
                area = identity.endorsement_public if name == "endorsement_cert" else b""
                request.certs.append(certificates.describe(pem.encode(), role, area))
        return request

    async def _ask_nonce(self) -> bytes:
        request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_NONCE)
        answer = await self._send(request, attest.ATTEST_RESP_NONCE)
        if not 12 <= len(answer.nonce.nonce) <= 32:
            raise Failure("cannot attest: the controller's nonce is not of 12 to 32 bytes")
        return answer.nonce.nonce

    async def _ask_quote(self, nonce: bytes) -> Quote:
        """An empty one when the module fails: the controller is to know, and decides."""
        name = uuid.uuid4().hex
        waiting: asyncio.Future[Quote] = asyncio.get_running_loop().create_future()
        self._quotes[name] = waiting
        try:
            await self._store.put(kinds.QUOTE_REQUEST, name, QuoteRequest(nonce=nonce))
            async with asyncio.timeout(QUOTE_SECONDS):
                quote = await waiting
        except TimeoutError:
            quote = Quote(why="the trust service does not answer")
        finally:
            self._quotes.pop(name, None)
            await self._store.delete(kinds.QUOTE_REQUEST, name)
        if quote.why:
            self._line.attest_trouble = f"cannot quote: {quote.why}"
            _log.error("%s; the controller gets an empty quote", self._line.attest_trouble)
        return quote

    async def _attest(self) -> None:
        answer = await self._send(self._quote_message(), attest.ATTEST_RESP_QUOTE_RESP)
        code = answer.quoteResp.response
        if code != attest.Z_ATTEST_RESPONSE_CODE_SUCCESS:
            name = attest.ZAttestResponseCode.Name(code) if code < 5 else str(code)
            reason = f" ({self._line.attest_trouble})" if self._quote.why else ""
            raise Failure(f"cannot attest: the controller answered {name}{reason}")
        self._line.integrity_token = answer.quoteResp.integrity_token
        blobs = tuple(
            key.key
            for key in answer.quoteResp.keys
            if key.key_type == attest.ATTEST_VOLUME_KEY_TYPE_VSK and key.key
        )
        held = self._digest if self._own_key and self._own_key in blobs else b""
        await self._tell_word(blobs=blobs, escrowed=held, at=self._line.context.clock.now())

    def _quote_message(self) -> attest.ZAttestReq:
        request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_QUOTE)
        quote, found = request.quote, self._quote
        quote.attestData = found.attest
        quote.signature = found.signature
        quote.tpm_binary_event_log = found.event_log
        for index, value in found.registers:
            quote.pcr_values.add(index=index, hash_algo=attest.TPM_HASH_ALGO_SHA256, value=value)
        version = self._line.context.settings.version or __version__
        quote.versions.add(version_type=attest.ATTEST_VERSION_TYPE_EVE, version=version)
        firmware = self._firmware()
        if firmware:
            quote.versions.add(version_type=attest.ATTEST_VERSION_TYPE_FIRMWARE, version=firmware)
        self._quote = Quote(why=found.why)  # a nonce is good for one quote
        return request

    def _firmware(self) -> str:
        """Vendor, version and date, as EVE names it."""
        context = self._line.context
        found = readings.inventory(context.paths.checkpoint, self._line.identity.serial)
        parts = (found.bios_vendor, found.bios_version, found.bios_date)
        return "-".join(part for part in parts if part)

    async def _store_key(self) -> None:
        own = self._own_key
        request = attest.ZAttestReq(reqType=attest.Z_ATTEST_REQ_TYPE_STORE_KEYS)
        request.storage_keys.integrity_token = self._line.integrity_token
        request.storage_keys.keys.add(key_type=attest.ATTEST_VOLUME_KEY_TYPE_VSK, key=own)
        answer = await self._send(request, attest.Z_ATTEST_RESP_TYPE_STORE_KEYS)
        code = answer.storage_keys_resp.response
        if code != attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_SUCCESS:
            raise Failure("cannot leave the vault's key with the controller: it wants a new quote")
        await self._tell_word(escrowed=hashlib.sha256(own).digest())
        _log.info("the controller keeps a copy of the vault's key")

    async def _tell_word(self, **changes: Any) -> None:
        """To the trust service; a node without a module has no vault to open."""
        self._word = msgspec.structs.replace(self._word, **changes)
        if self._line.identity.quote_cert:
            await self._store.put(kinds.CONTROLLER_VAULT_KEY, _VAULT, self._word)

    async def _send(
        self, request: attest.ZAttestReq, expected: attest.ZAttestRespType
    ) -> attest.ZAttestResponse:
        line = self._line
        path = f"/id/{line.node}/attest"
        reply = await line.link.post(path, request.SerializeToString(), sealed=True)
        if reply.status not in {200, 201}:
            raise Failure(f"cannot attest: {in_words(reply.status)}", reply.status)
        try:
            answer = attest.ZAttestResponse.FromString(reply.body)
        except DecodeError as error:
            raise Failure(f"cannot attest: unreadable answer: {error}") from error
        if answer.respType != expected:
            raise Failure(
                f"cannot attest: the controller answered another question ({answer.respType})"
            )
        return answer
