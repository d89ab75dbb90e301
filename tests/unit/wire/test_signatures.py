"""Keys and signatures at their edges."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import signatures
from edgevirt.wire.errors import Reason
from edgevirt.wire.signatures import SignatureError

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@given(st.integers(1, ORDER - 1))
def test_a_key_would_change_when_packed(scalar: int) -> None:
    key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    packed = signatures.pack_key(key)
    assert len(packed) == signatures.PACKED_KEY_SIZE
    assert signatures.unpack_key(packed) == key


@given(st.binary(max_size=70))
def test_bytes_that_are_no_point_would_be_used_as_a_key(packed: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        signatures.unpack_key(packed)
    assert caught.value.reason is Reason.BAD_KEY


def test_a_key_of_another_curve_would_be_packed_as_if_it_were_p256() -> None:
    for curve in (ec.SECP384R1(), ec.SECP256K1()):
        with pytest.raises(SignatureError) as caught:
            signatures.pack_key(ec.generate_private_key(curve).public_key())
        assert caught.value.reason is Reason.BAD_KEY


def test_a_controller_key_of_p384_would_be_cut_to_32_byte_numbers() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"message")
    signature = signatures.sign_digest(key, digest.finalize())
    assert len(signature) == 96
    signatures.verify(key.public_key(), signature, b"message")


def test_a_curve_outside_the_protocol_would_be_used() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    with pytest.raises(SignatureError) as caught:
        signatures.verify(key.public_key(), b"\1" * 132, b"message")
    assert caught.value.reason is Reason.BAD_KEY


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_our_der_would_differ_from_the_library_s(r: int, s: int) -> None:
    packed = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert signatures._to_der(packed, 32) == utils.encode_dss_signature(r, s)
