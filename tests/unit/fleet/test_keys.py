"""The fleet's keys: made once, believed by nodes, rotated without a node losing its way."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from edgevirt.fleet.keys import KEPT, KeyRing, Keys, KeysError, Role
from edgevirt.runtime import VirtualClock
from edgevirt.wire import certificates, controller_certs, envelope
from edgevirt.wire.controller_certs import ControllerCerts
from edgevirt.wire.messages import certs

HOSTS = ("fleet.example", "127.0.0.1")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def ring(tmp_path: Path, clock: VirtualClock) -> KeyRing:
    return KeyRing(tmp_path / "keys", HOSTS, clock)


def accepted(keys: Keys, clock: VirtualClock) -> ControllerCerts:
    """The list as a node takes it, or an exception."""
    published = certs.ZControllerCert.FromString(keys.certs_payload)
    now = datetime.fromtimestamp(clock.now(), UTC)
    return controller_certs.verify_controller_certs(published, keys.root.pem, now)


def test_a_second_start_finds_the_same_keys(
    tmp_path: Path, ring: KeyRing, clock: VirtualClock
) -> None:
    again = KeyRing(tmp_path / "keys", HOSTS, clock)
    assert again.keys.certs_payload == ring.keys.certs_payload
    assert again.keys.tls.pem == ring.keys.tls.pem
    assert again.keys.operators.pem == ring.keys.operators.pem
    assert again.keys.integrity_token(bytes(16), 1) == ring.keys.integrity_token(bytes(16), 1)


def test_nobody_else_may_read_a_key(tmp_path: Path, ring: KeyRing) -> None:
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_nodes_accept_the_published_list(ring: KeyRing, clock: VirtualClock) -> None:
    believed = accepted(ring.keys, clock)
    opened = envelope.open_envelope(ring.keys.seal(b"hello"), 10_000)
    envelope.require_sender(opened, believed.signing.cert_hash)
    envelope.verify(believed.signing.key, opened)
    assert len(believed.exchanges) == 1


def test_a_rotated_signing_key_is_published_before_it_is_used(
    ring: KeyRing, clock: VirtualClock
) -> None:
    before = ring.keys
    heard: list[Keys] = []
    ring.on_change(heard.append)
    ring.rotate(Role.SIGNING)
    assert heard == [ring.keys]
    assert ring.keys.certs_hash != before.certs_hash
    opened = envelope.open_envelope(ring.keys.seal(b"hello"), 10_000)
    envelope.verify(accepted(ring.keys, clock).signing.key, opened)
    with pytest.raises(envelope.EnvelopeError):
        envelope.require_sender(opened, before.signing_hash)


def test_a_replaced_encryption_key_stays_for_the_configs_that_use_it(
    ring: KeyRing, clock: VirtualClock
) -> None:
    first = ring.keys.encryptions[0].pem
    ring.rotate(Role.ENCRYPTION)
    hashes = set(accepted(ring.keys, clock).exchanges)
    assert certificates.short_pem_hash(first) in hashes
    assert len(hashes) == 2
    assert ring.keys.encryptions[0].pem != first


async def test_a_replaced_encryption_key_does_not_stay_forever(
    ring: KeyRing, clock: VirtualClock
) -> None:
    first = ring.keys.encryptions[0].pem
    ring.rotate(Role.ENCRYPTION)
    await clock.advance(KEPT.total_seconds() + 86_400)
    ring.rotate(Role.ENCRYPTION)
    assert first not in [pair.pem for pair in ring.keys.encryptions]
    assert len(ring.keys.encryptions) == 2


async def test_what_nears_its_end_is_replaced_in_time(ring: KeyRing, clock: VirtualClock) -> None:
    assert ring.rotate_due() == ()
    await clock.advance(500 * 86_400)
    assert ring.rotate_due() == (Role.TLS,)
    await clock.advance(7 * 365 * 86_400)
    assert set(ring.rotate_due()) == {Role.TLS, Role.SIGNING, Role.ENCRYPTION}
    accepted(ring.keys, clock)


def test_a_new_host_name_gets_into_the_tls_certificate(
    tmp_path: Path, ring: KeyRing, clock: VirtualClock
) -> None:
    again = KeyRing(tmp_path / "keys", (*HOSTS, "other.example"), clock)
    names = again.keys.tls.certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "other.example" in names.value.get_values_for_type(x509.DNSName)
    assert again.keys.root.pem == ring.keys.root.pem


def test_a_key_of_another_certificate_is_noticed(
    tmp_path: Path, ring: KeyRing, clock: VirtualClock
) -> None:
    keys = tmp_path / "keys"
    key, _ = (keys / "signing.pem").read_bytes().split(b"-----BEGIN CERTIFICATE-----")
    (keys / "signing.pem").write_bytes(key + ring.keys.tls.pem)
    with pytest.raises(KeysError, match="belong together"):
        KeyRing(keys, HOSTS, clock)


def test_a_half_written_key_is_never_what_is_read(tmp_path: Path, ring: KeyRing) -> None:
    (tmp_path / "keys" / ".signing.pem.abc").write_bytes(b"-----BEGIN PRIV")
    (tmp_path / "keys" / "encryption" / ".00000009.pem.abc").write_bytes(b"-----BEGIN PRIV")
    before = ring.keys.encryptions[0].pem
    ring.rotate(Role.SIGNING)
    assert [pair.pem for pair in ring.keys.encryptions] == [before]
