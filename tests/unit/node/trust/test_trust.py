"""trust: the same keys for ever, signatures that verify, secrets for their reader alone."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model import kinds
from edgevirt.model.app import AppInstance, Resources
from edgevirt.model.content import CipherBlock, Datastore, DatastoreType
from edgevirt.model.ids import AppId, DatastoreId
from edgevirt.model.node import (
    CipherContext,
    ControllerCertificates,
    Signature,
    SigningKey,
    SignRequest,
)
from edgevirt.node.trust.keys import Keys, KeysError, load_or_make
from edgevirt.node.trust.secrets import Secrets
from edgevirt.node.trust.signatures import Signatures
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime.access import View
from edgevirt.runtime.engine import plan_once
from edgevirt.wire import certificates, cipher, signatures
from edgevirt.wire.convert.contents import cipher_block
from edgevirt.wire.messages import common

NOW = 1_800_000_000.0
STORE = "00000000-0000-4000-8000-00000000000d"
APP = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_or_make(tmp_path / "keys", "serial-1", NOW)


def test_a_restart_finds_the_same_identity(tmp_path: Path, keys: Keys) -> None:
    again = load_or_make(tmp_path / "keys", "serial-1", NOW + 1e6)
    assert (again.device_cert, again.ecdh_cert) == (keys.device_cert, keys.ecdh_cert)
    assert again.device.private_numbers() == keys.device.private_numbers()


def test_private_keys_are_their_owners_alone(tmp_path: Path, keys: Keys) -> None:
    directory = tmp_path / "keys"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"device.key.pem", "ecdh.key.pem"} <= set(modes)


def test_a_damaged_key_is_refused_and_never_replaced(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "keys" / "device.key.pem"
    path.write_bytes(b"garbage")
    with pytest.raises(KeysError, match=r"cannot read the key device\.key\.pem"):
        load_or_make(tmp_path / "keys", "serial-1", NOW)
    assert path.read_bytes() == b"garbage"


def test_a_node_whose_tpm_is_gone_does_not_become_another_one(tmp_path: Path, keys: Keys) -> None:
    """Its certificate is there; its key is in the TPM."""
    (tmp_path / "keys" / "device.key.pem").unlink()
    with pytest.raises(KeysError, match="it is in a TPM, and the machine shows none"):
        load_or_make(tmp_path / "keys", "serial-1", NOW)


def test_a_key_that_came_with_config_is_the_nodes(tmp_path: Path, keys: Keys) -> None:
    given = (tmp_path / "keys" / "device.key.pem", tmp_path / "keys" / "device.cert.pem")
    found = load_or_make(tmp_path / "new disk", "serial-1", NOW, given)
    assert found.device_cert == keys.device_cert
    assert not (tmp_path / "new disk" / "device.key.pem").exists()


def test_the_device_key_vouches_for_the_exchange_key(keys: Keys) -> None:
    issuer = certificates.load_pem(keys.device_cert)
    certificates.require_issued_by(certificates.load_pem(keys.ecdh_cert), issuer)


def test_certificates_are_valid_on_a_machine_whose_clock_never_ran(tmp_path: Path) -> None:
    made = load_or_make(tmp_path / "epoch", "serial-1", now=0.0)
    certificate = x509.load_pem_x509_certificate(made.device_cert)
    assert certificate.not_valid_before_utc.timestamp() < NOW
    assert certificate.not_valid_after_utc.timestamp() > NOW + 10 * 365 * 86_400


def signed_by(keys: Keys) -> Signatures:
    return Signatures({SigningKey.DEVICE: keys.device}, Worker(module=True))


async def answer(
    signer: Signatures, request: SignRequest | None, given: Signature | None = None
) -> Signature | None:
    present = {"1": given} if given else {}
    inputs = View({kinds.SIGNATURE.name: present}, now=NOW, monotonic=0.0)
    return await signer.reconcile("1", request, inputs, _no_report)


async def _no_report(status: object) -> None:
    raise AssertionError("a signature has no steps")


async def test_a_signature_verifies_and_stays_until_its_request_goes(keys: Keys) -> None:
    signer = signed_by(keys)
    request = SignRequest(key=SigningKey.DEVICE, digest=hashlib.sha256(b"payload").digest())
    first = await answer(signer, request)
    assert first is not None
    signatures.verify(keys.device.public_key(), first.rs, b"payload")
    assert await answer(signer, request, first) is first
    assert await answer(signer, None, first) is None


@pytest.mark.parametrize(
    ("key", "digest", "why"),
    [
        (SigningKey.ONBOARDING, b"x" * 32, "there is no onboarding key"),
        (SigningKey.DEVICE, b"short", "this is no digest"),
    ],
)
async def test_a_request_that_cannot_be_signed_is_answered_with_the_reason(
    keys: Keys, key: SigningKey, digest: bytes, why: str
) -> None:
    given = await answer(signed_by(keys), SignRequest(key=key, digest=digest))
    assert given == Signature(rs=b"", why=why)


class Controller:
    """The other half of a cipher context."""

    def __init__(self, node: Keys) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        begin = x509.load_pem_x509_certificate(node.device_cert).not_valid_before_utc
        validity = certificates.Validity(begin, begin.replace(year=begin.year + 5))
        self.pem = certificates.to_pem(certificates.make_root("controller", key, validity))
        peer = x509.load_pem_x509_certificate(node.ecdh_cert).public_key()
        assert isinstance(peer, ec.EllipticCurvePublicKey)
        self.key = cipher.shared_key(key, peer)
        self.context = CipherContext(
            id="ctx",
            controller_cert_hash=certificates.short_pem_hash(self.pem),
            device_cert_hash=certificates.short_pem_hash(node.ecdh_cert),
        )
        listed = ((self.context.controller_cert_hash, self.pem.decode()),)
        self.certificates = ControllerCertificates(signing="", ecdh=listed)

    def seal(self, **secrets: str) -> CipherBlock:
        block = common.EncryptionBlock()
        for name, value in secrets.items():
            setattr(block, name, value)
        return cipher_block(cipher.seal_secrets(self.key, "ctx", block))


def _datastore(block: CipherBlock) -> Datastore:
    return Datastore(
        id=DatastoreId(STORE), type=DatastoreType.HTTPS, fqdn="https://example.com", cipher=block
    )


def test_credentials_and_user_data_come_out_as_they_went_in(keys: Keys) -> None:
    controller = Controller(keys)
    app = AppInstance(
        id=AppId(APP),
        name="till",
        resources=Resources(memory_kib=1024),
        cipher=controller.seal(protectedUserData="S0VZPXZhbHVl"),
    )
    plan = plan_once(
        Secrets(keys.agree, keys.ecdh_cert),
        {
            kinds.DATASTORE: {
                STORE: _datastore(controller.seal(dsAPIKey="factory", dsPassword="geheim"))
            },
            kinds.APP_INSTANCE: {APP: app},
            kinds.CIPHER_CONTEXT: {"ctx": controller.context},
            kinds.CONTROLLER_CERTIFICATES: {"controller": controller.certificates},
        },
    )
    credentials = plan.get(kinds.CREDENTIALS, STORE)
    assert credentials is not None
    assert (credentials.user, credentials.password, credentials.why) == ("factory", "geheim", "")
    secret = plan.get(kinds.APP_SECRET, APP)
    assert secret is not None
    assert secret.user_data == "S0VZPXZhbHVl"


def test_what_cannot_be_decrypted_says_why(keys: Keys) -> None:
    controller = Controller(keys)
    block = controller.seal(dsAPIKey="factory")
    planner = Secrets(keys.agree, keys.ecdh_cert)
    stores = {STORE: _datastore(block)}

    def why(context: CipherContext | None, known: bool = True) -> str:
        plan = plan_once(
            planner,
            {
                kinds.DATASTORE: stores,
                kinds.CIPHER_CONTEXT: {"ctx": context} if context else {},
                kinds.CONTROLLER_CERTIFICATES: (
                    {"controller": controller.certificates} if known else {}
                ),
            },
        )
        found = plan.get(kinds.CREDENTIALS, STORE)
        assert found is not None
        assert found.user == ""
        return found.why

    other = CipherContext(
        id="ctx",
        controller_cert_hash=controller.context.controller_cert_hash,
        device_cert_hash=b"x" * 16,
    )
    assert "cipher context ctx is unknown" in why(None)
    assert "isn't known yet" in why(controller.context, known=False)
    assert "another key of this node" in why(other)
