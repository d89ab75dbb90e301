"""Signatures beside images, by key, as cosign makes them (sigstore's SIGNATURE_SPEC): pure.

What is signed is a small document that names the digest of a manifest. It is a layer of a
manifest under the tag `sha256-<hex>.sig` of the same repository; the signature (ECDSA with P-256
over SHA-256) is an annotation of that layer. No certificates, no transparency log.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model.ids import Digest
from edgevirt.wire.errors import BadDocument

ANNOTATION: Final = "dev.cosignproject.cosign/signature"
PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
MAX_PAYLOAD: Final = 64 * 1024
MAX_SIGNATURES: Final = 64
MAX_KEYS: Final = 32

_TYPE: Final = "cosign container image signature"
_MAX_SIGNATURE = 200


class BadKey(Exception):
    """«cannot use a key: why»."""


class _Image(msgspec.Struct, frozen=True):
    digest: str = msgspec.field(name="docker-manifest-digest", default="")
    """cosign writes it so; its specification shows a capital D."""
    Digest: str = msgspec.field(name="Docker-manifest-digest", default="")


class _Identity(msgspec.Struct, frozen=True):
    reference: str = msgspec.field(name="docker-reference", default="")


class _Critical(msgspec.Struct, frozen=True):
    identity: _Identity
    image: _Image
    type: str


class _Payload(msgspec.Struct, frozen=True):
    critical: _Critical


_decode = msgspec.json.Decoder(_Payload).decode


def tag_of(digest: Digest) -> str:
    """Where the signatures of an image are, in its repository."""
    return digest.replace(":", "-") + ".sig"


def make_payload(reference: str, digest: Digest) -> bytes:
    """`reference`: HOST/REPOSITORY that the image was signed in: told, not believed."""
    document = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": _TYPE,
        },
        "optional": None,
    }
    return msgspec.json.encode(document)


def parse_payload(data: bytes) -> Digest:
    """The digest that was signed. Raises BadDocument."""
    if len(data) > MAX_PAYLOAD:
        raise BadDocument(f"cannot use a signature: {len(data)} bytes were signed")
    try:
        critical = _decode(data).critical
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise BadDocument(f"cannot use a signature: {failure}") from failure
    if critical.type != _TYPE:
        raise BadDocument(f"cannot use a signature: it is a {critical.type[:80]!r}")
    digests = {critical.image.digest, critical.image.Digest} - {""}
    if len(digests) != 1:
        raise BadDocument("cannot use a signature: it names no image, or two")
    return Digest(digests.pop())


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey) -> str:
    return base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()


def proves(payload: bytes, signature: str, pem: str) -> bool:
    """Whether `signature` (Base64) over `payload` was made with the key of `pem`. Raises BadKey."""
    key = parse_key(pem)
    if len(signature) > _MAX_SIGNATURE:
        return False
    try:
        raw = base64.b64decode(signature, validate=True)
        key.verify(raw, payload, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def parse_key(pem: str) -> ec.EllipticCurvePublicKey:
    """A public key in PEM, of the curve P-256. Raises BadKey."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as failure:
        raise BadKey("cannot use a key: it is no public key in PEM") from failure
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey("cannot use a key: it is not one of ECDSA with P-256")
    return key


def parse_private_key(pem: bytes, password: bytes | None) -> ec.EllipticCurvePrivateKey:
    """In PEM (PKCS #8 or SEC 1), perhaps encrypted. Raises BadKey."""
    if b"ENCRYPTED COSIGN" in pem[:64] or b"ENCRYPTED SIGSTORE" in pem[:64]:
        raise BadKey("cannot use a key: it is in cosign's own form; give it in PKCS #8")
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError as failure:
        needs = "needs a password" if password is None else "has no password"
        raise BadKey(f"cannot use a key: it {needs}") from failure
    except (ValueError, UnsupportedAlgorithm) as failure:
        raise BadKey("cannot use a key: no private key in PEM, or another password") from failure
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey("cannot use a key: it is not one of ECDSA with P-256")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> str:
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def fingerprint(pem: str) -> str:
    """Hex of the SHA-256 of a public key, to tell it by. Raises BadKey."""
    der = parse_key(pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return digest.finalize().hex()
