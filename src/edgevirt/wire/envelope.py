"""The signed envelope around every payload, both ways.

The signature covers the payload's own bytes and nothing else of the envelope. It says who sent the
payload by the hash of a certificate: of its DER form when a node sends, of the PEM form exactly as
published when the controller does (`certificates.der_hash`, `certificates.pem_hash`).

Sealing comes in one step for who holds the key (`seal`), or in two around a process that does:
`prepare`, then `signatures.sign_digest` over there, then `assemble`. Opening never verifies, since
the sender's key has to be found first: `open_envelope`, look up `sender_hash`, `verify`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from edgevirt.wire import signatures
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import auth, common
from edgevirt.wire.signatures import PublicKey, SignatureError

SHORT_HASH_SIZE: Final = 16
FULL_HASH_SIZE: Final = 32

_ALGORITHMS: Final = {
    SHORT_HASH_SIZE: common.HASH_ALGORITHM_SHA256_16BYTES,
    FULL_HASH_SIZE: common.HASH_ALGORITHM_SHA256_32BYTES,
}
_parse: Final = auth.AuthContainer.FromString


class EnvelopeError(WireError):
    """An envelope that cannot be accepted, or not be made from what was given."""


class Opened(msgspec.Struct, frozen=True, gc=False):
    """An envelope taken apart, its signature not yet verified.

    `sender_hash`: 16 or 32 bytes. `sender_cert`: base64 of a PEM file, set when a node registers.
    """

    payload: bytes
    sender_hash: bytes
    signature: bytes
    sender_cert: bytes = b""


class Encrypted(msgspec.Struct, frozen=True, gc=False):
    """An envelope whose payload was encrypted after signing; `decrypted` completes it."""

    context: common.CipherContext
    block: common.CipherBlock
    sender_hash: bytes
    signature: bytes


def prepare(payload: bytes) -> bytes:
    """The 32 bytes that the sender's key has to sign."""
    return hashlib.sha256(payload).digest()


def assemble(
    payload: bytes, signature: bytes, cert_hash: bytes, sender_cert_pem: bytes = b""
) -> bytes:
    """The envelope of a payload and the signature over its digest.

    `sender_cert_pem` goes with a registration alone: nobody knows the sender by hash yet.
    """
    return auth.AuthContainer(
        protectedPayload=auth.AuthBody(payload=payload),
        algo=_algorithm(cert_hash),
        senderCertHash=cert_hash,
        signatureHash=signature,
        senderCert=base64.b64encode(sender_cert_pem),
    ).SerializeToString()


def assemble_encrypted(
    context: common.CipherContext, block: common.CipherBlock, signature: bytes, cert_hash: bytes
) -> bytes:
    """The envelope of a payload that was signed, then encrypted into `block`."""
    return auth.AuthContainer(
        algo=_algorithm(cert_hash),
        senderCertHash=cert_hash,
        signatureHash=signature,
        cipherContext=context,
        cipherData=block,
    ).SerializeToString()


def seal(
    payload: bytes,
    key: ec.EllipticCurvePrivateKey,
    cert_hash: bytes,
    sender_cert_pem: bytes = b"",
) -> bytes:
    """Sign and wrap in one step."""
    signature = signatures.sign_digest(key, prepare(payload))
    return assemble(payload, signature, cert_hash, sender_cert_pem)


def open_envelope(raw: bytes, max_size: int) -> Opened:
    """Take an envelope apart without verifying it; `max_size` in bytes of `raw`.

    Raises EnvelopeError for anything that no peer may send, an encrypted payload included.
    """
    return _open_plain(_decode(raw, max_size))


def open_either(raw: bytes, max_size: int) -> Opened | Encrypted:
    """As `open_envelope`, for the one exchange in which payloads may be encrypted."""
    container = _decode(raw, max_size)
    if not container.HasField("cipherData"):
        return _open_plain(container)
    context, block = container.cipherContext, container.cipherData
    if not block.cipherData:
        raise EnvelopeError(Reason.MALFORMED, "cannot open envelope: its cipher block is empty")
    if block.cipherContextId != context.contextId:
        raise EnvelopeError(
            Reason.UNKNOWN_CONTEXT,
            "cannot open envelope: its cipher block names another context than it brings",
        )
    return Encrypted(context, block, container.senderCertHash, container.signatureHash)


def decrypted(envelope: Encrypted, payload: bytes) -> Opened:
    """The opened envelope, once its block has been decrypted to `payload`; verify it next."""
    return Opened(payload, envelope.sender_hash, envelope.signature)


def require_sender(opened: Opened, cert_hash: bytes) -> None:
    """Raise UNKNOWN_SENDER unless the certificate of this full hash sealed the envelope."""
    if opened.sender_hash != cert_hash[: len(opened.sender_hash)]:
        raise EnvelopeError(
            Reason.UNKNOWN_SENDER, "cannot trust envelope: its sender's certificate is not known"
        )


def verify(key: PublicKey, opened: Opened) -> None:
    """Raise EnvelopeError unless `key` signed the payload."""
    try:
        signatures.verify(key, opened.signature, opened.payload)
    except SignatureError as error:
        raise EnvelopeError(error.reason, str(error)) from error


def verify_packed(packed: bytes, opened: Opened) -> None:
    """`verify` with a node's key as `signatures.pack_key` packed it."""
    try:
        signatures.verify_packed(packed, opened.signature, opened.payload)
    except SignatureError as error:
        raise EnvelopeError(error.reason, str(error)) from error


def sender_pem(opened: Opened) -> bytes:
    """The PEM file that a registering node brings along."""
    try:
        pem = base64.b64decode(opened.sender_cert, validate=True)
    except binascii.Error as error:
        raise EnvelopeError(
            Reason.MALFORMED, "cannot read sender's certificate: not base64"
        ) from error
    if not pem:
        raise EnvelopeError(Reason.MALFORMED, "cannot read sender's certificate: there is none")
    return pem


def _decode(raw: bytes, max_size: int) -> auth.AuthContainer:
    if len(raw) > max_size:
        raise EnvelopeError(
            Reason.TOO_LARGE, f"cannot open envelope: {len(raw)} bytes, at most {max_size} allowed"
        )
    try:
        container = _parse(raw)
    except DecodeError as error:
        raise EnvelopeError(Reason.MALFORMED, "cannot open envelope: not an envelope") from error
    if len(container.senderCertHash) not in _ALGORITHMS:
        raise EnvelopeError(
            Reason.BAD_HASH_SIZE,
            f"cannot open envelope: sender's hash has {len(container.senderCertHash)} bytes",
        )
    if container.algo not in _ALGORITHMS.values():
        raise EnvelopeError(
            Reason.BAD_ALGORITHM, f"cannot open envelope: hash algorithm {container.algo} unknown"
        )
    return container


def _open_plain(container: auth.AuthContainer) -> Opened:
    if not container.HasField("protectedPayload"):
        raise EnvelopeError(Reason.MALFORMED, "cannot open envelope: it holds no readable payload")
    return Opened(
        container.protectedPayload.payload,
        container.senderCertHash,
        container.signatureHash,
        container.senderCert,
    )


def _algorithm(cert_hash: bytes) -> common.HashAlgorithm:
    try:
        return _ALGORITHMS[len(cert_hash)]
    except KeyError:
        raise EnvelopeError(
            Reason.BAD_HASH_SIZE, f"cannot seal envelope: hash of {len(cert_hash)} bytes"
        ) from None
