"""What a peer, or somebody in between, could do if the envelope were handled otherwise."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import envelope, signatures
from edgevirt.wire.envelope import Encrypted, EnvelopeError, Opened
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import auth, common

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
OTHER = ec.derive_private_key(0xBAD, ec.SECP256R1())
PUBLIC = KEY.public_key()
PACKED = signatures.pack_key(PUBLIC)
CERT_HASH = hashlib.sha256(b"a certificate").digest()
LIMIT = 4096
SEALED = envelope.seal(b"payload", KEY, CERT_HASH)


def container(**changes: object) -> bytes:
    """A well-formed envelope but for `changes`."""
    message = auth.AuthContainer.FromString(SEALED)
    for field, value in changes.items():
        message.ClearField(field)  # type: ignore[arg-type, unused-ignore]
        if value is not None:
            setattr(message, field, value)
    return message.SerializeToString()


def refusal(raw: bytes) -> Reason:
    with pytest.raises(EnvelopeError) as caught:
        envelope.verify(PUBLIC, envelope.open_envelope(raw, LIMIT))
    assert str(caught.value).startswith("cannot ")
    return caught.value.reason


@given(st.binary(max_size=512), st.sampled_from([16, 32]))
def test_a_payload_would_be_lost_or_altered_on_the_way(payload: bytes, hash_size: int) -> None:
    sealed = envelope.seal(payload, KEY, CERT_HASH[:hash_size])
    opened = envelope.open_envelope(sealed, LIMIT)
    envelope.verify(PUBLIC, opened)
    envelope.verify_packed(PACKED, opened)
    envelope.require_sender(opened, CERT_HASH)
    assert opened.payload == payload


def test_a_peer_would_verify_another_digest_than_we_sign() -> None:
    message = auth.AuthContainer.FromString(SEALED)
    signature, size = message.signatureHash, 32
    assert len(signature) == 2 * size
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    )
    PUBLIC.verify(der, b"payload", ec.ECDSA(hashes.SHA256()))
    assert message.protectedPayload.payload == b"payload"
    assert message.algo == common.HASH_ALGORITHM_SHA256_32BYTES
    assert message.senderCertHash == CERT_HASH
    assert not message.senderCert


def test_a_peer_would_be_told_the_wrong_hash_size() -> None:
    short = auth.AuthContainer.FromString(envelope.seal(b"", KEY, CERT_HASH[:16]))
    assert short.algo == common.HASH_ALGORITHM_SHA256_16BYTES
    with pytest.raises(EnvelopeError) as caught:
        envelope.seal(b"", KEY, CERT_HASH[:20])
    assert caught.value.reason is Reason.BAD_HASH_SIZE


def test_an_empty_message_would_travel_without_its_body() -> None:
    message = auth.AuthContainer.FromString(envelope.seal(b"", KEY, CERT_HASH))
    assert message.HasField("protectedPayload")


def test_the_key_could_not_stay_in_another_process() -> None:
    digest = envelope.prepare(b"payload")
    signature = signatures.sign_digest(KEY, digest)  # over there
    opened = envelope.open_envelope(envelope.assemble(b"payload", signature, CERT_HASH), LIMIT)
    envelope.verify(PUBLIC, opened)
    assert digest == hashlib.sha256(b"payload").digest()


def test_a_registering_node_could_not_show_its_certificate() -> None:
    pem = b"-----BEGIN CERTIFICATE-----\n"
    raw = envelope.seal(b"payload", KEY, CERT_HASH, sender_cert_pem=pem)
    assert auth.AuthContainer.FromString(raw).senderCert == base64.b64encode(pem)
    assert envelope.sender_pem(envelope.open_envelope(raw, LIMIT)) == pem


@pytest.mark.parametrize("sender_cert", [b"", b"not base64!", b"-----BEGIN CERTIFICATE-----"])
def test_a_bad_sender_certificate_would_pass_or_crash(sender_cert: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        envelope.sender_pem(Opened(b"", CERT_HASH, b"", sender_cert))
    assert caught.value.reason is Reason.MALFORMED


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_one_flipped_bit_would_be_accepted(bit: int) -> None:
    flipped = bytearray(SEALED)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EnvelopeError):
        accept(bytes(flipped))


def accept(raw: bytes) -> None:
    opened = envelope.open_envelope(raw, LIMIT)
    envelope.require_sender(opened, CERT_HASH)
    envelope.verify(PUBLIC, opened)


def test_a_field_that_a_newer_peer_adds_would_break_the_envelope() -> None:
    unknown_field = b"\xa2\x06\x03new"  # number 100, three bytes
    accept(SEALED + unknown_field)


@given(st.integers(0, len(SEALED) - 1))
def test_a_truncated_envelope_would_be_accepted(size: int) -> None:
    with pytest.raises(EnvelopeError):
        envelope.verify(PUBLIC, envelope.open_envelope(SEALED[:size], LIMIT))


@given(st.binary(max_size=300))
def test_garbage_would_raise_what_no_caller_expects(raw: bytes) -> None:
    for opener in (envelope.open_envelope, envelope.open_either):
        with pytest.raises(EnvelopeError):
            opener(raw, LIMIT)


@given(st.binary(max_size=80), st.integers(0, 5), st.binary(max_size=40), st.binary(max_size=600))
def test_hostile_fields_would_raise_what_no_caller_expects(
    payload: bytes, algo: int, sender: bytes, signature: bytes
) -> None:
    raw = auth.AuthContainer(
        protectedPayload=auth.AuthBody(payload=payload),
        algo=algo,  # type: ignore[arg-type]
        senderCertHash=sender,
        signatureHash=signature,
    ).SerializeToString()
    with pytest.raises(EnvelopeError):
        envelope.verify(PUBLIC, envelope.open_envelope(raw, LIMIT))


def test_an_oversized_envelope_would_be_parsed() -> None:
    envelope.open_envelope(SEALED, len(SEALED))
    with pytest.raises(EnvelopeError) as caught:
        envelope.open_envelope(SEALED, len(SEALED) - 1)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"senderCertHash": CERT_HASH[:15]}, Reason.BAD_HASH_SIZE),
        ({"senderCertHash": b""}, Reason.BAD_HASH_SIZE),
        ({"algo": 0}, Reason.BAD_ALGORITHM),
        ({"algo": 3}, Reason.BAD_ALGORITHM),
        ({"protectedPayload": None}, Reason.MALFORMED),
        ({"signatureHash": b""}, Reason.BAD_SIGNATURE),
        ({"signatureHash": b"\1" * 63}, Reason.BAD_SIGNATURE),
        ({"signatureHash": b"\1" * 65}, Reason.BAD_SIGNATURE),
        ({"signatureHash": b"\0" * 64}, Reason.BAD_SIGNATURE),
        ({"signatureHash": b"\xff" * 64}, Reason.BAD_SIGNATURE),
    ],
)
def test_a_caller_would_be_told_the_wrong_reason(
    changes: dict[str, object], reason: Reason
) -> None:
    assert refusal(container(**changes)) is reason


def test_the_der_form_of_a_signature_would_be_accepted() -> None:
    der = KEY.sign(b"payload", ec.ECDSA(hashes.SHA256()))
    assert refusal(container(signatureHash=der)) is Reason.BAD_SIGNATURE


def test_another_key_could_speak_for_the_sender() -> None:
    forged = envelope.seal(b"payload", OTHER, CERT_HASH)
    assert refusal(forged) is Reason.BAD_SIGNATURE


def test_a_changed_certificate_would_look_like_a_bad_signature() -> None:
    opened = envelope.open_envelope(SEALED, LIMIT)
    with pytest.raises(EnvelopeError) as caught:
        envelope.require_sender(opened, hashlib.sha256(b"renewed").digest())
    assert caught.value.reason is Reason.UNKNOWN_SENDER


def test_small_numbers_in_a_signature_would_lose_their_padding() -> None:
    """One signature in 256 has an r below 2**248; it must still be 64 bytes and verify."""
    for counter in range(5000):
        payload = counter.to_bytes(4, "big")
        opened = envelope.open_envelope(envelope.seal(payload, KEY, CERT_HASH), LIMIT)
        assert len(opened.signature) == 64
        if opened.signature[0] == 0 or opened.signature[32] == 0:
            envelope.verify(PUBLIC, opened)
            return
    pytest.fail("no short number among 5000 signatures")


def test_a_controller_with_an_rsa_key_would_be_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(b"payload", padding.PKCS1v15(), hashes.SHA256())
    opened = envelope.open_envelope(envelope.assemble(b"payload", signature, CERT_HASH), LIMIT)
    envelope.verify(key.public_key(), opened)
    with pytest.raises(EnvelopeError):
        envelope.verify(PUBLIC, opened)
    with pytest.raises(EnvelopeError):
        envelope.verify(key.public_key(), envelope.open_envelope(SEALED, LIMIT))


def test_an_encrypted_payload_would_not_come_through() -> None:
    context = common.CipherContext(contextId="c")
    block = common.CipherBlock(cipherContextId="c", cipherData=b"\1\2\3")
    signature = signatures.sign_digest(KEY, envelope.prepare(b"payload"))
    raw = envelope.assemble_encrypted(context, block, signature, CERT_HASH)
    encrypted = envelope.open_either(raw, LIMIT)
    assert isinstance(encrypted, Encrypted)
    assert (encrypted.context, encrypted.block) == (context, block)
    envelope.verify(PUBLIC, envelope.decrypted(encrypted, b"payload"))
    with pytest.raises(EnvelopeError):
        envelope.verify(PUBLIC, envelope.decrypted(encrypted, b"another"))
    assert refusal(raw) is Reason.MALFORMED


def test_a_plain_payload_would_be_taken_for_an_encrypted_one() -> None:
    opened = envelope.open_either(SEALED, LIMIT)
    assert isinstance(opened, Opened)
    assert opened == envelope.open_envelope(SEALED, LIMIT)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (common.CipherBlock(cipherContextId="c"), Reason.MALFORMED),
        (common.CipherBlock(cipherContextId="d", cipherData=b"x"), Reason.UNKNOWN_CONTEXT),
    ],
)
def test_an_unusable_cipher_block_would_reach_the_decrypter(
    block: common.CipherBlock, reason: Reason
) -> None:
    context = common.CipherContext(contextId="c")
    raw = envelope.assemble_encrypted(context, block, b"\1" * 64, CERT_HASH)
    with pytest.raises(EnvelopeError) as caught:
        envelope.open_either(raw, LIMIT)
    assert caught.value.reason is reason
