"""Quotes: what a security module signed is believed, whatever else comes is an error."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.attestation import quote
from edgevirt.fleet.attestation.quote import NonceError, QuoteError

KEY = ec.generate_private_key(ec.SECP256R1())
NONCE = b"n" * 32
PCRS = {number: hashlib.sha256(b"%d" % number).digest() for number in range(24)}


def attest(
    nonce: bytes = NONCE,
    chosen: tuple[int, ...] = tuple(range(16)),
    *,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    bank: int = 0x000B,
    banks: int = 1,
) -> bytes:
    """TPMS_ATTEST of the registers in PCRS."""
    bitmap = sum(1 << number for number in chosen).to_bytes(3, "little")
    digest = hashlib.sha256(b"".join(PCRS[number] for number in chosen)).digest()
    return b"".join(
        (
            struct.pack(">IH", magic, kind),
            struct.pack(">H", 3) + b"who",
            struct.pack(">H", len(nonce)) + nonce,
            bytes(25),
            struct.pack(">IHB", banks, bank, 3) + bitmap,
            struct.pack(">H", 32) + digest,
        )
    )


def check(signed: bytes, values: dict[int, bytes] | None = None) -> quote.Quoted:
    signature = KEY.sign(signed, ec.ECDSA(hashes.SHA256()))
    return quote.check(signed, signature, values or PCRS, KEY.public_key(), NONCE)


def test_a_quote_tells_which_registers_it_is_about() -> None:
    assert check(attest()).pcrs == tuple(range(16))
    assert check(attest(chosen=(0, 7, 23))).pcrs == (0, 7, 23)


def test_registers_that_were_not_quoted_may_have_any_value() -> None:
    check(attest(chosen=(1, 2)), {**PCRS, 5: bytes(32)})


@pytest.mark.parametrize("number", [0, 15])
def test_a_quoted_register_must_have_the_value_that_was_signed(number: int) -> None:
    with pytest.raises(QuoteError, match="not those that were signed"):
        check(attest(), {**PCRS, number: bytes(32)})


def test_a_quoted_register_must_come_with_its_value() -> None:
    with pytest.raises(QuoteError, match="without the values"):
        check(attest(), {number: PCRS[number] for number in range(15)})


def test_a_quote_of_no_register_proves_nothing() -> None:
    with pytest.raises(QuoteError, match="without the values"):
        check(attest(chosen=()))


def test_another_nonce_is_told_apart() -> None:
    with pytest.raises(NonceError):
        check(attest(nonce=b"m" * 32))
    with pytest.raises(NonceError):
        check(attest(nonce=b""))


@pytest.mark.parametrize(
    "signed",
    [
        attest(magic=1),
        attest(kind=0x8017),
        attest(bank=0x0004),
        attest(banks=2),
        attest(banks=0),
        attest() + b"x",
        attest()[:-1],
        b"",
    ],
)
def test_what_is_no_quote_is_refused_even_if_signed(signed: bytes) -> None:
    with pytest.raises(QuoteError):
        check(signed)


def test_somebody_else_s_signature_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    signature = other.sign(attest(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(QuoteError, match="not signed"):
        quote.check(attest(), signature, PCRS, KEY.public_key(), NONCE)
    with pytest.raises(QuoteError, match="not signed"):
        quote.check(attest(), b"junk", PCRS, KEY.public_key(), NONCE)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        quote.parse(data)
    except QuoteError:
        return
    assert data.startswith(b"\xffTCG")


@given(st.integers(0, len(attest()) - 1), st.integers(1, 255))
def test_a_changed_quote_never_passes(position: int, flip: int) -> None:
    whole = attest()
    changed = whole[:position] + bytes((whole[position] ^ flip,)) + whole[position + 1 :]
    signature = KEY.sign(whole, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(QuoteError):
        quote.check(changed, signature, PCRS, KEY.public_key(), NONCE)
