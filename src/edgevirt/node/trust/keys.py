"""The node's own keys, made once and kept by this service alone.

Three places, in this order: a software key that the node was given or once made (CONFIG, or files
of mode 0600 here) stays its identity for good; else the machine's TPM holds the keys; a machine
without one gets software keys. Whoever asks for a signature notices no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.node.trust import files
from edgevirt.wire import certificates, cipher

LIFETIME = timedelta(days=365 * 20)
"""The device certificate is an identity, not a lease: it must outlive the machine."""
BEFORE = timedelta(days=365)
"""Certificates begin this much earlier: a machine without a clock starts years behind."""

Agree = Callable[[ec.EllipticCurvePublicKey], cipher.BlockKey]
"""The key that the node's exchange key shares with another one. A TPM takes a moment."""


class KeysError(Exception):
    """«cannot X: why». Keys are never made anew in place of damaged ones: that loses the node."""


class Keys(msgspec.Struct, frozen=True):
    """Certificates are PEM. `quote_cert`: empty unless a TPM holds the keys."""

    device: ec.EllipticCurvePrivateKey
    device_cert: bytes
    agree: Agree
    ecdh_cert: bytes
    quote_cert: bytes = b""
    endorsement_cert: bytes = b""
    endorsement_public: bytes = b""


def has_software_keys(directory: Path, given: Path) -> bool:
    """`given`: a device key that came with CONFIG."""
    return given.exists() or (directory / "device.key.pem").exists()


def load_or_make(
    directory: Path, serial: str, now: float, given: tuple[Path, Path] | None = None
) -> Keys:
    """Software keys, the same at every start. `given`: device key and certificate from CONFIG.

    Raises KeysError when what is there can't be read.
    """
    prepare(directory)
    validity = validity_from(now)
    if given is not None and given[0].exists():
        device, device_cert = read_key(given[0]), given[1].read_bytes()
        require_same(device_cert, device.public_key(), given[1].name)
    elif (directory / "device.cert.pem").exists() and not (directory / "device.key.pem").exists():
        raise KeysError(
            "cannot use the device key: it is in a TPM, and the machine shows none; "
            "see to it in the firmware's setup"
        )
    else:
        device = _key(directory / "device.key.pem")
        device_cert = certificate(
            directory / "device.cert.pem",
            device.public_key(),
            lambda: certificates.make_device(device_name(serial), device, validity),
        )
    issuer = certificates.Issuer(certificates.load_pem(device_cert), device)
    ecdh = _key(directory / "ecdh.key.pem")
    ecdh_cert = certificate(
        directory / "ecdh.cert.pem",
        ecdh.public_key(),
        lambda: certificates.make_exchange(
            exchange_name(serial), ecdh.public_key(), issuer, validity
        ),
    )
    return Keys(device, device_cert, lambda peer: cipher.shared_key(ecdh, peer), ecdh_cert)


def prepare(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)


def validity_from(now: float) -> certificates.Validity:
    begin = max(datetime.fromtimestamp(now, UTC), datetime(2026, 1, 1, tzinfo=UTC)) - BEFORE
    return certificates.Validity(begin, begin + BEFORE + LIFETIME)


def device_name(serial: str) -> str:
    return f"edgevirt node {serial}"[:64]


def exchange_name(serial: str) -> str:
    return f"edgevirt exchange {serial}"[:64]


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysError(f"cannot read the key {path.name}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysError(f"cannot use the key {path.name}: it is no elliptic curve key")
    return key


def require_same(pem: bytes, key: ec.EllipticCurvePublicKey, name: str) -> None:
    if certificates.load_pem(pem).public_key() != key:
        raise KeysError(f"cannot use {name}: it belongs to another key")


def certificate(
    path: Path, key: ec.EllipticCurvePublicKey, make: Callable[[], x509.Certificate]
) -> bytes:
    """PEM of the one that is there, or of a new one."""
    if not path.exists():
        files.write(path, certificates.to_pem(make()))
    pem = path.read_bytes()
    require_same(pem, key, path.name)
    return pem


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        return read_key(path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files.write(path, pem)
    return key
