"""What a peer could not decrypt, or would misread, if blocks were made otherwise."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import cipher
from edgevirt.wire.cipher import BlockKey, CipherError
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import common

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SCALARS = st.integers(1, ORDER - 1) | st.sampled_from([1, 2, 3, ORDER - 3, ORDER - 2, ORDER - 1])
KEY = BlockKey(bytes(range(32)))
OTHER_KEY = BlockKey(bytes(32))


def private(scalar: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, ec.SECP256R1())


def reason_of(block: common.CipherBlock, key: BlockKey = KEY) -> Reason:
    with pytest.raises(CipherError) as caught:
        cipher.open_block(key, block)
    return caught.value.reason


def test_a_stock_peer_would_derive_another_key_or_text() -> None:
    ours = private(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721)
    theirs = private(int.from_bytes(b"\x01" * 32, "big"))
    key = cipher.shared_key(ours, theirs.public_key())
    assert key.hex() == "314c07b7518db35c2fb7b22120cf95de9598fda7e7921011bc045c3e83642a4d"
    text, iv = b"this is the secret, longer than one block", bytes(range(16))
    block = cipher.seal_with(key, "c", text, iv)
    assert block.cipherData.hex() == (
        "4a642d67f4da86cceef179f5240a6ff3a180ad9879c5aa3c390a6446123d4380b24569788235f23071"
    )
    assert block.initialValue == iv
    assert block.clearTextSha256 == hashlib.sha256(text).digest()
    assert cipher.open_block(cipher.shared_key(theirs, ours.public_key()), block) == text


@given(SCALARS, SCALARS)
def test_the_wrong_one_of_two_points_would_make_the_key(ours: int, theirs: int) -> None:
    """The shared point is ours * theirs * G, which the library computes whole for a public key."""
    point = private(ours * theirs % ORDER).public_key().public_numbers()
    expected = hashlib.sha256(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")).digest()
    assert cipher.shared_key(private(ours), private(theirs).public_key()) == expected
    assert cipher.key_from_point(point.x, point.y) == expected
    assert cipher.key_from_point(point.x, P - point.y) != expected


def test_keys_of_another_curve_would_be_mixed_in() -> None:
    foreign = ec.generate_private_key(ec.SECP384R1())
    for ours, theirs in ((foreign, private(5)), (private(5), foreign)):
        with pytest.raises(CipherError) as caught:
            cipher.shared_key(ours, theirs.public_key())
        assert caught.value.reason is Reason.BAD_KEY


@given(st.binary(min_size=1, max_size=200), st.text(max_size=20))
def test_a_plaintext_would_not_come_back(plaintext: bytes, context: str) -> None:
    block = cipher.seal(KEY, context, plaintext)
    assert block.cipherContextId == context
    assert cipher.open_block(KEY, block) == plaintext


def test_an_unchanged_config_would_get_a_new_hash_with_each_render() -> None:
    assert cipher.seal(KEY, "c", b"secret") == cipher.seal(KEY, "c", b"secret")


@given(st.sets(st.binary(min_size=1, max_size=20), min_size=2, max_size=5))
def test_two_plaintexts_would_share_an_initial_value(plaintexts: set[bytes]) -> None:
    values = {cipher.seal(KEY, "c", plaintext).initialValue for plaintext in plaintexts}
    assert len(values) == len(plaintexts)
    other = {cipher.seal(OTHER_KEY, "c", plaintext).initialValue for plaintext in plaintexts}
    assert not values & other


@given(st.binary(min_size=16, max_size=60), st.data())
def test_one_flipped_bit_would_decrypt(plaintext: bytes, data: st.DataObject) -> None:
    block = cipher.seal(KEY, "c", plaintext)
    field = data.draw(st.sampled_from(["initialValue", "cipherData", "clearTextSha256"]))
    value = bytearray(getattr(block, field))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    setattr(block, field, bytes(value))
    assert reason_of(block) is Reason.BAD_DIGEST


def test_the_wrong_key_would_yield_a_text() -> None:
    assert reason_of(cipher.seal(KEY, "c", b"secret"), OTHER_KEY) is Reason.BAD_DIGEST


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_a_hostile_block_would_raise_what_no_caller_expects(
    iv: bytes, data: bytes, digest: bytes
) -> None:
    block = common.CipherBlock(initialValue=iv, cipherData=data, clearTextSha256=digest)
    assert reason_of(block) in (Reason.MALFORMED, Reason.BAD_DIGEST)


@pytest.mark.parametrize("size", [0, 12, 15, 17])
def test_an_initial_value_of_another_size_would_crash_a_stock_peer(size: int) -> None:
    with pytest.raises(CipherError) as caught:
        cipher.seal_with(KEY, "c", b"secret", b"\0" * size)
    assert caught.value.reason is Reason.MALFORMED


def test_an_empty_plaintext_would_be_sent_though_peers_refuse_it() -> None:
    with pytest.raises(CipherError):
        cipher.seal(KEY, "c", b"")
    with pytest.raises(CipherError):
        cipher.seal_secrets(KEY, "c", common.EncryptionBlock())


def test_secrets_would_not_come_back() -> None:
    secrets = common.EncryptionBlock(dsAPIKey="user", dsPassword="pass", wifiPassword="psk")
    assert cipher.open_secrets(KEY, cipher.seal_secrets(KEY, "c", secrets)) == secrets


def test_something_else_would_be_read_as_secrets() -> None:
    with pytest.raises(CipherError) as caught:
        cipher.open_secrets(KEY, cipher.seal(KEY, "c", b"\xff\xff\xff"))
    assert caught.value.reason is Reason.MALFORMED


def test_a_context_with_an_unknown_scheme_would_be_used() -> None:
    context = cipher.describe_context("c", b"\1" * 16, b"\2" * 16)
    cipher.require_supported(context)
    assert (context.controllerCertHash, context.deviceCertHash) == (b"\1" * 16, b"\2" * 16)
    for field in ("keyExchangeScheme", "encryptionScheme"):
        unknown = common.CipherContext()
        unknown.CopyFrom(context)
        setattr(unknown, field, 0)
        with pytest.raises(CipherError) as caught:
            cipher.require_supported(unknown)
        assert caught.value.reason is Reason.BAD_ALGORITHM
