"""Keys in a real TPM: one identity for the machine's life, whatever happens to its disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.protocol import KeyRole, SecurityModule
from edgevirt.node.paths import Paths
from edgevirt.node.trust import module_keys
from edgevirt.node.trust.keys import Keys, KeysError
from edgevirt.node.trust.service import load
from edgevirt.wire import certificates, cipher, signatures
from tests.parts.swtpm import Swtpm, swtpm

NOW = 1_800_000_000.0


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path / "tpm") as machine:
        yield machine


@pytest.fixture
def module(tpm: Swtpm) -> Iterator[SecurityModule]:
    found = open_tpm(tpm.socket)
    assert found is not None
    yield found
    found.close()


@pytest.fixture
def paths(tmp_path: Path, tpm: Swtpm) -> Paths:
    (tmp_path / "config").mkdir()
    return Paths(tmp_path / "config", tmp_path / "persist", tmp_path / "run", tpm.socket)


def made(module: SecurityModule, directory: Path) -> Keys:
    return module_keys.load_or_make(module, directory, "serial-1", NOW)


def test_no_private_key_is_on_the_disk(module: SecurityModule, tmp_path: Path) -> None:
    made(module, tmp_path / "keys")
    names = sorted(path.name for path in (tmp_path / "keys").iterdir())
    assert names == ["device.cert.pem", "ecdh.cert.pem", "quote.cert.pem"]


def test_the_identity_survives_the_loss_of_the_disk(module: SecurityModule, tmp_path: Path) -> None:
    before = made(module, tmp_path / "keys")
    shutil.rmtree(tmp_path / "keys")
    after = made(module, tmp_path / "keys")
    assert (after.device_cert, after.ecdh_cert, after.quote_cert) == (
        before.device_cert,
        before.ecdh_cert,
        before.quote_cert,
    )


def test_the_device_key_vouches_for_the_others(module: SecurityModule, tmp_path: Path) -> None:
    keys = made(module, tmp_path / "keys")
    device = certificates.load_pem(keys.device_cert)
    for pem, role in (
        (keys.device_cert, KeyRole.DEVICE),
        (keys.ecdh_cert, KeyRole.EXCHANGE),
        (keys.quote_cert, KeyRole.QUOTE),
    ):
        certificates.require_issued_by(certificates.load_pem(pem), device)
        assert certificates.load_pem(pem).public_key() == module.public_key(role)


def test_it_signs_and_agrees_as_a_software_key_does(module: SecurityModule, tmp_path: Path) -> None:
    keys = made(module, tmp_path / "keys")
    digest = hashlib.sha256(b"payload").digest()
    signatures.verify(
        keys.device.public_key(), signatures.sign_digest(keys.device, digest), b"payload"
    )
    peer = ec.generate_private_key(ec.SECP256R1())
    exchange = certificates.load_pem(keys.ecdh_cert).public_key()
    assert isinstance(exchange, ec.EllipticCurvePublicKey)
    assert keys.agree(peer.public_key()) == cipher.shared_key(peer, exchange)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"a certificate of another machine"])
def test_a_damaged_certificate_is_had_from_the_tpm(
    module: SecurityModule, tmp_path: Path, damage: bytes
) -> None:
    before = made(module, tmp_path / "keys")
    if damage.startswith(b"a cert"):
        with swtpm(tmp_path / "other") as machine:
            other = open_tpm(machine.socket)
            assert other is not None
            damage = made(other, tmp_path / "other keys").device_cert
            other.close()
    (tmp_path / "keys" / "device.cert.pem").write_bytes(damage)
    assert made(module, tmp_path / "keys").device_cert == before.device_cert


def test_a_node_with_a_software_key_keeps_it_when_a_tpm_appears(paths: Paths) -> None:
    without = Paths(paths.config, paths.persist, paths.run, paths.config / "none")
    before = load(without, "serial-1", NOW)
    after = load(paths, "serial-1", NOW)
    assert after.module is None
    assert after.keys.device_cert == before.keys.device_cert


def test_a_node_whose_tpm_disappears_does_not_become_another_one(paths: Paths) -> None:
    held = load(paths, "serial-1", NOW)
    assert held.module is not None
    held.module.close()
    without = Paths(paths.config, paths.persist, paths.run, paths.config / "none")
    with pytest.raises(KeysError, match="it is in a TPM"):
        load(without, "serial-1", NOW)


def test_a_tpm_that_does_not_answer_is_no_reason_for_a_software_key(
    paths: Paths, tpm: Swtpm
) -> None:
    tpm.stop()
    tpm.socket.touch()
    with pytest.raises(TpmError):
        load(paths, "serial-1", NOW)
    assert not (paths.keys / "device.key.pem").exists()
