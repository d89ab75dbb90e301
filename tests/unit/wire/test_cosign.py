"""Signatures by key: what was signed is proven by the right key alone, and nothing else is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model.ids import Digest
from edgevirt.wire import cosign
from edgevirt.wire.errors import BadDocument

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
A, B = (Digest("sha256:" + letter * 64) for letter in "ab")


def pem_of(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def test_a_signature_proves_its_payload_by_its_key_and_by_no_other() -> None:
    payload = cosign.make_payload("registry.local/app", A)
    signature = cosign.sign(payload, KEY)
    assert cosign.parse_payload(payload) == A
    assert cosign.proves(payload, signature, cosign.public_pem(KEY))
    assert not cosign.proves(payload, signature, cosign.public_pem(OTHER))
    assert not cosign.proves(payload + b" ", signature, cosign.public_pem(KEY))
    assert not cosign.proves(
        cosign.make_payload("registry.local/app", B), signature, cosign.public_pem(KEY)
    )


def test_the_payload_is_the_one_that_cosign_signs() -> None:
    assert json.loads(cosign.make_payload("registry.local/app", A)) == {
        "critical": {
            "identity": {"docker-reference": "registry.local/app"},
            "image": {"docker-manifest-digest": A},
            "type": "cosign container image signature",
        },
        "optional": None,
    }


def test_signatures_lie_under_a_tag_that_the_digest_gives() -> None:
    assert cosign.tag_of(A) == f"sha256-{'a' * 64}.sig"


@pytest.mark.parametrize(
    "signature", ["", "!", base64.b64encode(b"x").decode(), "A" * 10_000, "ä", "\0"]
)
def test_what_is_no_signature_proves_nothing(signature: str) -> None:
    assert not cosign.proves(b"payload", signature, cosign.public_pem(KEY))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"critical": {"identity": {}, "image": {}, "type": "cosign container image signature"}}',
        b'{"critical": {"identity": {}, "type": "atomic container signature",'
        b' "image": {"docker-manifest-digest": "sha256:aa"}}}',
        b'{"critical": {"identity": {}, "type": "cosign container image signature", "image":'
        b' {"docker-manifest-digest": "sha256:aa", "Docker-manifest-digest": "sha256:bb"}}}',
        b" " * (cosign.MAX_PAYLOAD + 1),
        b"[" * 60_000,
    ],
)
def test_a_payload_that_names_no_image_is_refused(payload: bytes) -> None:
    with pytest.raises(BadDocument, match="cannot use a signature"):
        cosign.parse_payload(payload)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_payload_or_refused(data: bytes) -> None:
    with pytest.raises(BadDocument):
        cosign.parse_payload(data)


def test_keys_of_other_kinds_are_refused_in_words() -> None:
    public: list[rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey] = [
        rsa.generate_private_key(65537, 2048).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
    ]
    for key in public:
        pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with pytest.raises(cosign.BadKey, match="not one of ECDSA with P-256"):
            cosign.parse_key(pem.decode())
    with pytest.raises(cosign.BadKey, match="no public key in PEM"):
        cosign.parse_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")


def test_a_private_key_opens_with_its_password_alone() -> None:
    sealed = pem_of(KEY, b"sesame")
    assert cosign.public_pem(cosign.parse_private_key(sealed, b"sesame")) == cosign.public_pem(KEY)
    assert cosign.parse_private_key(pem_of(KEY), None)
    for pem, password, why in (
        (sealed, None, "needs a password"),
        (sealed, b"wrong", "another password"),
        (pem_of(KEY), b"sesame", "has no password"),
        (b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n", None, "cosign's own form"),
        (b"nonsense", None, "no private key"),
    ):
        with pytest.raises(cosign.BadKey, match=why):
            cosign.parse_private_key(pem, password)


def test_a_key_is_told_by_the_hash_of_what_openssl_writes(tmp_path: Path) -> None:
    import hashlib

    der = KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert cosign.fingerprint(cosign.public_pem(KEY)) == hashlib.sha256(der).hexdigest()
