"""The node's own keys, made once and kept by this service alone.

Software keys: files of mode 0600 in a directory of mode 0700. A machine with a TPM will keep the
device key there instead; whoever asks for a signature notices no difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.wire import certificates

LIFETIME = timedelta(days=365 * 20)
"""The device certificate is an identity, not a lease: it must outlive the machine."""
BEFORE = timedelta(days=365)
"""Certificates begin this much earlier: a machine without a clock starts years behind."""


class KeysError(Exception):
    """«cannot X: why». Keys are never made anew in place of damaged ones: that loses the node."""


@dataclass(frozen=True)
class Keys:
    device: ec.EllipticCurvePrivateKey
    device_cert: bytes
    """PEM."""
    ecdh: ec.EllipticCurvePrivateKey
    ecdh_cert: bytes
    """PEM."""


def load_or_make(directory: Path, serial: str, now: float) -> Keys:
    """The same keys at every start. Raises KeysError when what is there can't be read."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    begin = max(datetime.fromtimestamp(now, UTC), datetime(2026, 1, 1, tzinfo=UTC)) - BEFORE
    validity = certificates.Validity(begin, begin + BEFORE + LIFETIME)
    device = _key(directory / "device.key.pem")
    device_cert = _cert(
        directory / "device.cert.pem",
        device,
        lambda: certificates.make_device(f"edgevirt node {serial}"[:64], device, validity),
    )
    issuer = certificates.Issuer(certificates.load_pem(device_cert), device)
    ecdh = _key(directory / "ecdh.key.pem")
    ecdh_cert = _cert(
        directory / "ecdh.cert.pem",
        ecdh,
        lambda: certificates.make_exchange(
            f"edgevirt exchange {serial}"[:64], ecdh.public_key(), issuer, validity
        ),
    )
    return Keys(device, device_cert, ecdh, ecdh_cert)


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysError(f"cannot read the key {path.name}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysError(f"cannot use the key {path.name}: it is no elliptic curve key")
    return key


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        return read_key(path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, pem)
    return key


def _cert(
    path: Path, key: ec.EllipticCurvePrivateKey, make: Callable[[], x509.Certificate]
) -> bytes:
    if not path.exists():
        _write(path, certificates.to_pem(make()))
    pem = path.read_bytes()
    if certificates.load_pem(pem).public_key() != key.public_key():
        raise KeysError(f"cannot use {path.name}: it belongs to another key")
    return pem


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, on disk before it returns."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
