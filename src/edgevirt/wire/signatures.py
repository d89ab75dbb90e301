"""Signatures as envelopes carry them, and P-256 keys packed into 64 bytes.

An ECDSA signature travels as r‖s, a packed public key is x‖y; each number is padded on the left to
the size of the curve. Neither is the DER form that libraries speak.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from edgevirt.wire.errors import Reason, WireError

PACKED_KEY_SIZE: Final = 64

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""What may have signed: a node uses P-256, a controller may also use P-384 or RSA."""

_P256: Final = ec.SECP256R1()
_NUMBER_SIZES: Final = {"secp256r1": 32, "secp384r1": 48}
_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_ECDSA_DIGEST: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_RSA_PADDING: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()


class SignatureError(WireError):
    """A signature or key that cannot be accepted; `reason` is BAD_SIGNATURE or BAD_KEY."""


def pack_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """The 64 bytes x‖y of a P-256 key; a hundred bytes in a table instead of thousands."""
    _number_size(key, only="secp256r1")
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def unpack_key(packed: bytes) -> ec.EllipticCurvePublicKey:
    """The key that `pack_key` packed; refuses a point that is not on the curve."""
    if len(packed) != PACKED_KEY_SIZE:
        raise SignatureError(
            Reason.BAD_KEY, f"cannot load key: {len(packed)} bytes instead of {PACKED_KEY_SIZE}"
        )
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + packed)
    except ValueError as error:
        raise SignatureError(Reason.BAD_KEY, "cannot load key: not a point of P-256") from error


def sign_digest(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """r‖s over a SHA-256 digest; what the process that holds the key has to do, and no more."""
    size = _number_size(key.public_key())
    r, s = decode_dss_signature(key.sign(digest, _ECDSA_DIGEST))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Raise SignatureError unless `signature` is `key`'s over the SHA-256 of `message`.

    ECDSA as r‖s, RSA as PKCS #1 v1.5.
    """
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_to_der(signature, _number_size(key)), message, _ECDSA)
        else:
            key.verify(signature, message, _RSA_PADDING, _SHA256)
    except InvalidSignature as error:
        raise SignatureError(
            Reason.BAD_SIGNATURE, "cannot verify signature: it is not this key's over this message"
        ) from error


def verify_packed(packed: bytes, signature: bytes, message: bytes) -> None:
    """`verify` with a packed P-256 key."""
    verify(unpack_key(packed), signature, message)


def _number_size(key: ec.EllipticCurvePublicKey, only: str | None = None) -> int:
    """Bytes of one coordinate, for the curves that the protocol admits."""
    name = key.curve.name
    if name not in _NUMBER_SIZES or (only is not None and name != only):
        raise SignatureError(Reason.BAD_KEY, f"cannot use key: curve {name} is not in the protocol")
    return _NUMBER_SIZES[name]


def _to_der(signature: bytes, size: int) -> bytes:
    """SEQUENCE of two INTEGERs; by hand, since this runs for every request.

    Both numbers are short enough for the one-byte lengths of DER: 2 * (48 + 3) < 128.
    """
    if len(signature) != 2 * size:
        raise SignatureError(
            Reason.BAD_SIGNATURE,
            f"cannot verify signature: {len(signature)} bytes instead of {2 * size}",
        )
    body = _to_der_integer(signature[:size]) + _to_der_integer(signature[size:])
    return b"\x30" + bytes((len(body),)) + body


def _to_der_integer(number: bytes) -> bytes:
    digits = number.lstrip(b"\0") or b"\0"
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return b"\x02" + bytes((len(digits),)) + digits
