"""Attestation: certificates, nonce, quote, token (EVE API v2, `attest`). No TPM: empty quotes."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from edgevirt import __version__
from edgevirt.node.agent.outcome import Failure, in_words
from edgevirt.node.agent.state import Line
from edgevirt.wire import certificates
from edgevirt.wire.messages import attest, certs

_log = logging.getLogger(__name__)
RETRY = 15.0
"""Seconds, in every state that waits."""


async def attest_always(line: Line) -> None:
    """Never returns: attests at start, and whenever the controller asks for it."""
    while True:
        while not line.attested:
            try:
                await _attest(line)
            except Failure as failure:
                _log.warning("%s; again in %.0f s", failure, RETRY)
                await line.pause(RETRY, line.attest_bell)
        await line.tell()
        line.config_bell.ring()
        while line.attested:
            await line.pause(86_400.0, line.attest_bell)


async def _attest(line: Line) -> None:
    await _send(line, _own_certificates(line), attest.ATTEST_RESP_CERT)
    nonce = await _send(
        line, attest.ZAttestReq(reqType=attest.ATTEST_REQ_NONCE), attest.ATTEST_RESP_NONCE
    )
    if not 12 <= len(nonce.nonce.nonce) <= 32:
        raise Failure("cannot attest: the controller's nonce is not of 12 to 32 bytes")
    answer = await _send(line, _quote(), attest.ATTEST_RESP_QUOTE_RESP)
    code = answer.quoteResp.response
    if code != attest.Z_ATTEST_RESPONSE_CODE_SUCCESS:
        name = attest.ZAttestResponseCode.Name(code) if code < 5 else str(code)
        raise Failure(f"cannot attest: the controller answered {name}")
    line.integrity_token = answer.quoteResp.integrity_token
    line.attested = True
    _log.info("attested")


def _own_certificates(line: Line) -> attest.ZAttestReq:
    pem = line.identity.ecdh_cert.encode()
    exchange = certificates.describe(pem, certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE)
    return attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=[exchange])


def _quote() -> attest.ZAttestReq:
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_QUOTE)
    request.quote.versions.add(version_type=attest.ATTEST_VERSION_TYPE_EVE, version=__version__)
    return request


async def _send(
    line: Line, request: attest.ZAttestReq, expected: attest.ZAttestRespType
) -> attest.ZAttestResponse:
    reply = await line.link.post(
        f"/id/{line.node}/attest", request.SerializeToString(), sealed=True
    )
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
