"""The nodes' API: who signed, may they, and what do they get. Knows no transport.

The order of checks is the specification's: a body that is no envelope 422, a sender that is not
known or whose signature is wrong 401, a node that speaks for another one 403. What is only
temporary is 503, never 400 or 404: nodes drop reports that were answered so.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from edgevirt.fleet.attestation.attest import Attestation
from edgevirt.fleet.configs.configs import Configs
from edgevirt.fleet.device.reports import Reports
from edgevirt.fleet.device.routes import UNKNOWN_LIMIT, Route, Sender, Table
from edgevirt.fleet.enrollment.enrollment import Enrollment
from edgevirt.fleet.enrollment.waiting import Machine, Outcome, read_machine
from edgevirt.fleet.keys import KeyRing, Keys
from edgevirt.fleet.nodes.devices import device_key
from edgevirt.fleet.nodes.registry import UNKNOWN, Registry, parse_node
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.replies import Reply, Request, Response
from edgevirt.runtime import Clock, StoreError
from edgevirt.wire import certificates, envelope
from edgevirt.wire.envelope import EnvelopeError, Opened
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import attest, config, identity, register

_log: Final = logging.getLogger(__name__)

_REGISTERED: Final = {
    Outcome.NEW: replies.CREATED,
    Outcome.REPEATED: replies.OK,
    Outcome.TAKEN: replies.CONFLICT,
    Outcome.REFUSED: replies.FORBIDDEN,
}
_MAX_SERIAL: Final = 256
_BEGIN: Final = b"-----BEGIN"


class _Signed(NamedTuple):
    """A request whose sender is known, on its way."""

    route: Route
    node: bytes
    app: bytes
    opened: Opened
    row: int
    key: ec.EllipticCurvePublicKey


class Handler:
    """One per process: `answering.Application`, and usable behind any other transport."""

    registry: Registry
    reports: Reports

    def __init__(
        self,
        table: Table,
        registry: Registry,
        configs: Configs,
        enrollment: Enrollment,
        attestation: Attestation,
        reports: Reports,
        ring: KeyRing,
        clock: Clock,
    ) -> None:
        self.registry = registry
        self.reports = reports
        self._configs = configs
        self._enrollment = enrollment
        self._attestation = attestation
        self._ring = ring
        self._clock = clock
        self._table = table
        self._certs: Response | None = None
        ring.on_change(self._forget_certs)

    def body_limit(self, path: bytes) -> int:
        route = self._table.find(path)[0]
        return route.limit if route is not None else UNKNOWN_LIMIT

    def handle_all(self, asked: Sequence[Request]) -> list[Reply]:
        """Answers what came together, step by step for all: verifying signatures needs the
        processor's caches for itself, so that going back and forth costs a third more.
        """
        opened = [self._open(*request) for request in asked]
        checked = [self._check(one) if isinstance(one, _Signed) else one for one in opened]
        return [self._act(one) if isinstance(one, _Signed) else one for one in checked]

    def _open(self, method: bytes, path: bytes, body: bytes) -> Reply | _Signed:
        route, node, app = self._table.find(path)
        if route is None:
            return replies.NOT_FOUND
        if method != route.method:
            return replies.METHOD_NOT_ALLOWED
        if route.sender is Sender.NOBODY:
            return route.act(self)
        if not self.registry.whole.is_set():
            return replies.UNAVAILABLE
        try:
            opened = envelope.open_envelope(body, route.limit)
        except EnvelopeError as error:
            return replies.TOO_LARGE if error.reason is Reason.TOO_LARGE else replies.UNPROCESSABLE
        if route.sender is Sender.ONBOARDING:
            return route.act(self, opened)
        row = self.registry.find(opened.sender_hash)
        if row == UNKNOWN:
            return self._stranger(opened)
        return _Signed(route, node, app, opened, row, self.registry.key(row))

    def _check(self, signed: _Signed) -> Reply | _Signed:
        try:
            envelope.verify(signed.key, signed.opened)
        except EnvelopeError:
            return replies.UNAUTHORIZED
        return signed

    def _act(self, signed: _Signed) -> Reply:
        route, node, app, opened, row, _ = signed
        registry = self.registry
        if node and parse_node(node) != registry.node(row):
            return replies.FORBIDDEN
        registry.touch(row, self._clock.now())
        if not app:
            return route.act(self, row, opened.payload)
        app_id = parse_node(app)
        if app_id is None:
            return replies.BAD_REQUEST
        return route.act(self, row, opened.payload, device_key(app_id))

    def _stranger(self, opened: Opened) -> Response:
        """One who waits to be let in is told so; the node asks again either way."""
        return (
            replies.FORBIDDEN
            if self._enrollment.asks(opened.sender_hash)
            else (replies.UNAUTHORIZED)
        )

    # -- routes --

    def ping(self) -> Reply:
        return replies.OK

    def certs(self) -> Reply:
        if self._certs is None:
            keys = self._ring.keys
            self._certs = Response(HTTPStatus.OK, keys.seal(keys.certs_payload))
        return self._certs

    def _forget_certs(self, _keys: Keys) -> None:
        self._certs = None

    def register(self, opened: Opened) -> Reply:
        try:
            onboarding = certificates.load_pem(envelope.sender_pem(opened))
        except WireError:
            return replies.UNPROCESSABLE
        cert_hash = certificates.der_hash(onboarding)
        try:
            envelope.require_sender(opened, cert_hash)
            envelope.verify(certificates.public_key_of(onboarding), opened)
        except WireError:
            return replies.UNAUTHORIZED
        try:
            message = register.ZRegisterMsg.FromString(opened.payload)
            machine = read_machine(
                _pem_of(message.pemCert), message.serial.strip(), message.softSerial.strip()
            )
        except (DecodeError, WireError, binascii.Error):
            return replies.UNPROCESSABLE
        if any(len(serial) > _MAX_SERIAL for serial in machine.serials):
            return replies.UNPROCESSABLE
        if not self._enrollment.in_step.is_set():
            return replies.UNAVAILABLE
        return self._patiently(self._register(cert_hash, machine))

    async def _register(self, cert_hash: bytes, machine: Machine) -> Response:
        return _REGISTERED[await self._enrollment.register(cert_hash, machine)]

    def uuid(self, row: int, payload: bytes) -> Reply:
        answer = identity.UuidResponse(uuid=device_key(self.registry.node(row)))
        return Response(HTTPStatus.OK, self._ring.keys.seal(answer.SerializeToString()))

    def config(self, row: int, payload: bytes) -> Reply:
        try:
            request = config.ConfigRequest.FromString(payload)
        except DecodeError:
            return replies.UNPROCESSABLE
        token = self.registry.token(row)
        if not token or not hmac.compare_digest(request.integrity_token, token):
            return self._refuse(row)
        known = request.configHash.encode()
        if known and known == self.registry.config_hash(row):
            self.registry.note_current(row)
            return replies.NOT_MODIFIED
        if not self._configs.in_step.is_set():
            return replies.UNAVAILABLE
        return self._patiently(self._config(row, known))

    def _refuse(self, row: int) -> Reply:
        """A machine that is barred is offered another system with the refusal: its cure."""
        if not self.registry.barred(row) or not self._configs.in_step.is_set():
            return replies.FORBIDDEN
        return self._patiently(self._repair(row))

    async def _repair(self, row: int) -> Response:
        return await self._configs.repair(row) or replies.FORBIDDEN

    async def _config(self, row: int, known: bytes) -> Response:
        answer = await self._configs.answer(row, known)
        if answer is not None:
            return answer
        self.registry.note_current(row)
        return replies.NOT_MODIFIED

    def attest(self, row: int, payload: bytes) -> Reply:
        try:
            request = attest.ZAttestReq.FromString(payload)
        except DecodeError:
            return replies.UNPROCESSABLE
        return self._patiently(self._attestation.answer(row, request))

    async def _patiently(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """A store that fails, or an object that just went, is no fault of the node's."""
        try:
            return await answer
        except (StoreError, LookupError) as error:
            _log.warning("cannot answer a node now: %s", error)
            return replies.UNAVAILABLE


def _pem_of(sent: bytes) -> bytes:
    """Nodes send base64 of the PEM file, the specification says PEM."""
    if sent.startswith(_BEGIN):
        return sent
    return base64.b64decode(sent, validate=True)
