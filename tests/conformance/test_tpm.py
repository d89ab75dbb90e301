"""What the node relies on in a security module, on a real TPM 2.0 (swtpm's)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.attestation import quote
from edgevirt.host.tpm import commands as tpm_commands
from edgevirt.host.tpm.failures import TpmError, TpmMismatch, TpmMissing
from edgevirt.host.tpm.frame import Authorization, Command
from edgevirt.host.tpm.line import Line
from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.protocol import KeyRole, SecurityModule
from edgevirt.host.tpm.structures import EXCHANGE_KEY, extended, register_policy
from edgevirt.wire import cipher, signatures
from tests.parts.swtpm import Swtpm, swtpm

DIGEST = hashlib.sha256(b"payload").digest()
SEALING = (0, 1, 2, 3, 4, *range(6, 15))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path) as started:
        yield started


def opened(machine: Swtpm) -> SecurityModule:
    found = open_tpm(machine.socket)
    assert found is not None
    return found


@pytest.fixture
def module(machine: Swtpm) -> Iterator[SecurityModule]:
    found = opened(machine)
    yield found
    found.close()


def test_a_machine_without_one_is_told_from_one_whose_module_fails(tmp_path: Path) -> None:
    assert open_tpm(tmp_path / "nothing") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(TpmError):
        open_tpm(tmp_path / "file")


def test_it_says_who_made_it(module: SecurityModule) -> None:
    facts = module.facts()
    assert facts.manufacturer == "IBM SWTPM"
    assert facts.specification.startswith("2.0 rev 1.")
    assert facts.firmware.count(".") == 3


def test_a_signature_verifies_and_the_key_survives_a_power_cycle(machine: Swtpm) -> None:
    module = opened(machine)
    assert not module.has_key(KeyRole.DEVICE)
    key = module.public_key(KeyRole.DEVICE)
    signatures.verify(key, module.sign(KeyRole.DEVICE, DIGEST), b"payload")
    module.close()
    machine.restart()
    module = opened(machine)
    assert module.has_key(KeyRole.DEVICE)
    assert module.public_key(KeyRole.DEVICE).public_numbers() == key.public_numbers()
    signatures.verify(key, module.sign(KeyRole.DEVICE, DIGEST), b"payload")
    module.close()


def test_the_shared_point_is_the_one_that_the_peer_gets(module: SecurityModule) -> None:
    peer = ec.generate_private_key(ec.SECP256R1())
    ours = cipher.key_from_point(*module.agree(peer.public_key()))
    assert ours == cipher.shared_key(peer, module.public_key(KeyRole.EXCHANGE))


def test_the_quote_key_signs_nothing_but_quotes(module: SecurityModule) -> None:
    module.public_key(KeyRole.QUOTE)
    with pytest.raises(TpmError, match="cannot sign"):
        module.sign(KeyRole.QUOTE, DIGEST)


def test_a_quote_is_believed_by_who_checks_it(module: SecurityModule) -> None:
    module.extend(14, DIGEST)
    key = module.public_key(KeyRole.QUOTE)
    signed = module.quote(b"nonce of the fleet", range(16))
    quoted = quote.check(signed.attest, signed.signature, signed.values, key, b"nonce of the fleet")
    assert quoted.pcrs == tuple(range(16))
    assert signed.values[14] == extended(bytes(32), DIGEST)
    with pytest.raises(quote.NonceError):
        quote.check(signed.attest, signed.signature, signed.values, key, b"another nonce")
    false = {**signed.values, 14: bytes(32)}
    with pytest.raises(quote.QuoteError):
        quote.check(signed.attest, signed.signature, false, key, b"nonce of the fleet")
    key.verify(signed.signature, signed.attest, ec.ECDSA(hashes.SHA256()))


def test_all_registers_are_read_though_a_tpm_tells_eight_at_a_time(module: SecurityModule) -> None:
    assert list(module.registers(range(24))) == list(range(24))


def test_a_register_takes_digests_alone(module: SecurityModule) -> None:
    with pytest.raises(TpmError, match="no SHA-256 digest"):
        module.extend(14, b"short")


def test_a_sealed_key_comes_out_at_each_start_with_the_same_measurements(machine: Swtpm) -> None:
    module = opened(machine)
    module.extend(8, DIGEST)
    sealed = module.seal(b"k" * 32, module.registers(SEALING))
    assert b"k" * 8 not in sealed.private + sealed.public
    for _ in range(2):
        module.close()
        machine.restart()
        module = opened(machine)
        module.extend(8, DIGEST)
        assert module.unseal(sealed) == b"k" * 32
    module.close()


def test_a_sealed_key_stays_in_after_another_measurement(module: SecurityModule) -> None:
    sealed = module.seal(b"k" * 32, module.registers(SEALING))
    module.extend(5, DIGEST)  # not among those that it is sealed to
    assert module.unseal(sealed) == b"k" * 32
    module.extend(13, DIGEST)
    for _ in range(4):  # no lockout, and nothing is left behind
        with pytest.raises(TpmMismatch, match="its registers are not those"):
            module.unseal(sealed)


def test_a_key_can_be_sealed_for_measurements_to_come(module: SecurityModule) -> None:
    values = module.registers(SEALING)
    sealed = module.seal(b"k" * 32, {**values, 13: extended(values[13], DIGEST)})
    with pytest.raises(TpmMismatch):
        module.unseal(sealed)
    module.extend(13, DIGEST)
    assert module.unseal(sealed) == b"k" * 32


def test_another_machine_cannot_unseal(module: SecurityModule, tmp_path: Path) -> None:
    sealed = module.seal(b"k" * 32, module.registers(SEALING))
    with swtpm(tmp_path / "other") as other:
        stranger = opened(other)
        with pytest.raises(TpmError, match="cannot load a sealed key"):
            stranger.unseal(sealed)
        stranger.close()


def test_many_uses_leave_no_handle_behind(module: SecurityModule) -> None:
    for number in range(12):  # a TPM has three slots
        sealed = module.seal(bytes([number]) * 32, module.registers(SEALING))
        assert module.unseal(sealed)[0] == number


def test_memory_keeps_what_was_written_last(machine: Swtpm) -> None:
    module = opened(machine)
    assert module.read_memory(0x150_0000) == b""
    module.write_memory(0x150_0000, b"first")
    module.write_memory(0x150_0000, b"c" * 1400)
    module.close()
    machine.restart()
    module = opened(machine)
    assert module.read_memory(0x150_0000) == b"c" * 1400
    with pytest.raises(TpmError, match="0 bytes"):
        module.write_memory(0x150_0000, b"")
    module.close()


def test_a_key_that_somebody_put_in_its_place_is_refused(machine: Swtpm) -> None:
    """The handle of the device key holds a key for another use."""
    line = Line(machine.socket)
    owner = Authorization()
    made = line.run(tpm_commands.create_primary("make", EXCHANGE_KEY, owner))
    line.run(tpm_commands.keep(made.handle, 0x817F_FFFF, owner))
    line.close()
    module = opened(machine)
    with pytest.raises(TpmError, match="was not made in this TPM for that use"):
        module.public_key(KeyRole.DEVICE)
    module.close()


def test_a_password_of_the_owner_is_asked_for_in_words(machine: Swtpm) -> None:
    line = Line(machine.socket)
    line.run(_set_owner_password(b"secret"))
    line.close()
    module = opened(machine)
    with pytest.raises(TpmError, match="its owner has set a password"):
        module.public_key(KeyRole.DEVICE)
    module.close()
    knowing = open_tpm(machine.socket, b"secret")
    assert knowing is not None
    knowing.public_key(KeyRole.DEVICE)
    knowing.close()


def _set_owner_password(password: bytes) -> Command:
    """TPM2_HierarchyChangeAuth, which the node itself never does."""
    auth = Authorization().to_bytes()
    body = (0x4000_0001).to_bytes(4, "big") + len(auth).to_bytes(4, "big") + auth
    body += len(password).to_bytes(2, "big") + password
    head = (0x8002).to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big")
    return Command("set a password", head + (0x129).to_bytes(4, "big") + body)


def test_a_module_that_goes_away_is_missed_in_words(machine: Swtpm) -> None:
    module = opened(machine)
    machine.stop()
    with pytest.raises(TpmMissing, match="cannot read registers with the TPM"):
        module.registers([0])
    module.close()


def test_our_idea_of_a_policy_is_the_tpms(machine: Swtpm) -> None:
    """PolicyGetDigest after PolicyPCR, beside the digest that we computed."""
    module = opened(machine)
    module.extend(9, DIGEST)
    values = module.registers(SEALING)
    module.close()
    line = Line(machine.socket)
    session = line.run(tpm_commands.start_policy(b"n" * 16)).handle
    line.run(tpm_commands.require_registers(session, SEALING))
    asked = b"\x80\x01\x00\x00\x00\x0e\x00\x00\x01\x89" + session.to_bytes(4, "big")
    answer = line.run(Command("get a digest", asked))
    assert answer.parameters.sized() == register_policy(values)
    line.close()
