"""TPM 2.0 on the wire: bytes as the specification has them, and answers that are not to be."""

from __future__ import annotations

import hashlib

import pytest

from edgevirt.host.tpm import commands
from edgevirt.host.tpm.failures import LOCKOUT, TpmError, TpmMismatch, failure
from edgevirt.host.tpm.structures import Reader, read_public, read_quote, register_policy, selection


def test_commands_are_the_bytes_that_every_tpm_knows() -> None:
    assert commands.startup().data.hex() == "80010000000c000001440000"
    read = commands.read_registers(range(8))
    assert read.data.hex() == "8001000000140000017e00000001000b03ff0000"
    extend = commands.extend(14, bytes(range(32)))
    assert extend.data.hex() == (
        "80020000004100000182"  # head: with a session, 65 bytes, TPM2_PCR_Extend
        "0000000e"
        "00000009400000090000000000"  # an empty password
        "00000001000b" + bytes(range(32)).hex()
    )
    assert commands.flush(0x80000001).data.hex() == "80010000000e0000016580000001"


def test_a_selection_of_registers_is_a_bitmap_of_the_sha256_bank() -> None:
    assert selection([0, 9, 23]).hex() == "00000001000b03010280"


def test_a_policy_depends_on_each_register_and_its_value() -> None:
    values = {number: bytes(32) for number in (0, 1, 14)}
    policies = {
        register_policy(values),
        register_policy({**values, 14: b"\1" * 32}),
        register_policy({0: bytes(32), 1: bytes(32), 13: bytes(32)}),
    }
    assert len(policies) == 3
    # by hand, as part 3 says it: old digest, TPM_CC_PolicyPCR, selection, digest of the values
    by_hand = bytes(32) + bytes.fromhex("0000017f00000001000b03010000")
    by_hand += hashlib.sha256(bytes(32)).digest()
    assert register_policy({0: bytes(32)}) == hashlib.sha256(by_hand).digest()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x921, "it is locked after too many failed authorizations"),
        (0x101, "it is in failure mode"),
        (0x14B, "it has no room left"),
        (0x9A2, "its owner has set a password"),
        (0x98E, "its owner has set a password"),
        (0x18B, "it does not hold that"),
        (0x0BFF, "it answered 0xbff"),
    ],
)
def test_a_refusal_is_told_in_words(code: int, words: str) -> None:
    assert f"cannot sign with the TPM: {words}" in str(failure("sign", code))


def test_a_policy_that_fails_is_told_from_other_refusals() -> None:
    assert isinstance(failure("unseal", 0x99D), TpmMismatch)
    assert isinstance(failure("unseal", 0x128), TpmMismatch)
    assert not isinstance(failure("unseal", LOCKOUT), TpmMismatch)


@pytest.mark.parametrize("answer", ["", "8001", "80010000000a000000000000", "80010000000b00000000"])
def test_an_answer_that_is_cut_short_is_refused(answer: str) -> None:
    command = commands.read_registers([0])
    with pytest.raises(TpmError, match="cut short"):
        commands.read_registers_answer(command.read(bytes.fromhex(answer)))


def test_what_is_no_quote_is_refused() -> None:
    with pytest.raises(TpmError, match="it is none"):
        read_quote(bytes.fromhex("ff5443478017") + bytes(64))


def test_a_key_that_is_no_elliptic_curve_has_no_point() -> None:
    sealed = bytes.fromhex("0008000b000004120000" + "0010" + "0000")
    assert read_public(sealed).point is None


def test_a_reader_never_reads_past_the_end() -> None:
    with pytest.raises(TpmError):
        Reader(b"\x00\x05abc").sized()


def test_a_maker_is_letters_and_a_version_four_numbers() -> None:
    make = commands.make_of(
        {
            0x105: 0x49465800,
            0x106: 0x534C4239,
            0x107: 0x36373200,
            0x102: 138,
            0x10B: 0x00070055,
            0x10C: 0x00112D02,
        }
    )
    assert make.manufacturer == "IFX SLB9672"
    assert (make.firmware, make.specification) == ("7.85.17.11522", "2.0 rev 1.38")
