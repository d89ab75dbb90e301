"""Keys that a TPM holds, and their certificates, which the TPM's memory keeps as well.

The data's disk may be lost, or replaced by a new installation: the node is the same one
afterwards, with the same certificates, so that its controller goes on believing it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.protocol import KeyRole, SecurityModule
from edgevirt.host.tpm.remembered import DEVICE_CERTIFICATE, ENDORSEMENT
from edgevirt.node.trust import files
from edgevirt.node.trust.keys import (
    Keys,
    device_name,
    exchange_name,
    prepare,
    validity_from,
)
from edgevirt.wire import certificates, cipher
from edgevirt.wire.certificates import CertificateError

_log = logging.getLogger(__name__)

_MEMORY: Final = {
    KeyRole.DEVICE: DEVICE_CERTIFICATE,
    KeyRole.QUOTE: 0x150_0001,
    KeyRole.EXCHANGE: 0x150_0002,
}
_FILES: Final = {
    KeyRole.DEVICE: "device.cert.pem",
    KeyRole.QUOTE: "quote.cert.pem",
    KeyRole.EXCHANGE: "ecdh.cert.pem",
}

Make = Callable[[], x509.Certificate]


def load_or_make(module: SecurityModule, directory: Path, serial: str, now: float) -> Keys:
    """Raises TpmError when the TPM does not do its part."""
    prepare(directory)
    validity = validity_from(now)
    device = ModuleKey(module, KeyRole.DEVICE)
    device_cert = _certificate(
        module,
        directory,
        KeyRole.DEVICE,
        None,
        lambda: certificates.make_device(device_name(serial), device, validity),
    )
    issuer = certificates.Issuer(certificates.load_pem(device_cert), device)

    def make_quote() -> x509.Certificate:
        key = module.public_key(KeyRole.QUOTE)
        return certificates.make_quote(f"edgevirt quote {serial}"[:64], key, issuer, validity)

    def make_exchange() -> x509.Certificate:
        key = module.public_key(KeyRole.EXCHANGE)
        return certificates.make_exchange(exchange_name(serial), key, issuer, validity)

    endorsement, public = _endorsement(module)
    return Keys(
        device=device,
        device_cert=device_cert,
        agree=lambda peer: cipher.key_from_point(*module.agree(peer)),
        ecdh_cert=_certificate(
            module, directory, KeyRole.EXCHANGE, issuer.certificate, make_exchange
        ),
        quote_cert=_certificate(module, directory, KeyRole.QUOTE, issuer.certificate, make_quote),
        endorsement_cert=endorsement,
        endorsement_public=public,
    )


def _certificate(
    module: SecurityModule,
    directory: Path,
    role: KeyRole,
    issuer: x509.Certificate | None,
    make: Make,
) -> bytes:
    """PEM: from the file, else from the TPM's memory, else a new one; kept in both."""
    path, index = directory / _FILES[role], _MEMORY[role]
    key = module.public_key(role)
    kept = path.read_bytes() if path.exists() else b""
    remembered = module.read_memory(index)
    for pem in (kept, remembered):
        if _fits(pem, key, issuer):
            break
    else:
        pem = certificates.to_pem(make())
    if pem != kept:
        files.write(path, pem)
    if pem != remembered:
        _remember(module, index, pem, role)
    return pem


def _fits(pem: bytes, key: ec.EllipticCurvePublicKey, issuer: x509.Certificate | None) -> bool:
    """What was written by somebody else, or half, is made anew: the key decides."""
    if not pem:
        return False
    try:
        found = certificates.load_pem(pem)
        certificates.require_issued_by(found, issuer or found)
        return found.public_key() == key
    except (CertificateError, ValueError, UnsupportedAlgorithm):
        return False


def _remember(module: SecurityModule, index: int, pem: bytes, role: KeyRole) -> None:
    """Without it the node works, and would get a new certificate with a new disk."""
    try:
        module.write_memory(index, pem)
    except TpmError as error:
        _log.warning("cannot keep the %s certificate in the TPM: %s", role.value, error)


def _endorsement(module: SecurityModule) -> tuple[bytes, bytes]:
    """The maker's certificate as PEM, and the TPM2B_PUBLIC of the key that it is for."""
    try:
        found = x509.load_der_x509_certificate(module.read_memory(ENDORSEMENT))
        key = found.public_key()
    except (TpmError, ValueError, UnsupportedAlgorithm):
        return b"", b""
    if not isinstance(key, rsa.RSAPublicKey):
        return b"", b""
    return certificates.to_pem(found), _endorsement_area(key)


_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def _endorsement_area(key: rsa.RSAPublicKey) -> bytes:
    """The TCG's default template of an RSA endorsement key with this modulus."""
    modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    head = struct.pack(">HHI", 0x0001, 0x000B, 0x0003_00B2)
    policy = struct.pack(">H", len(_POLICY)) + _POLICY
    parameters = struct.pack(">HHHHHI", 0x0006, 128, 0x0043, 0x0010, key.key_size, 0)
    area = head + policy + parameters + struct.pack(">H", len(modulus)) + modulus
    return struct.pack(">H", len(area)) + area


class ModuleKey(ec.EllipticCurvePrivateKey):
    """A private key that signs in the module, for what takes any private key."""

    def __init__(self, module: SecurityModule, role: KeyRole) -> None:
        self._module = module
        self._role = role

    def sign(
        self,
        data: bytes | bytearray | memoryview[int],
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        """DER."""
        digest = bytes(data)
        if not isinstance(signature_algorithm.algorithm, Prehashed):
            hashing = hashes.Hash(hashes.SHA256())
            hashing.update(data)
            digest = hashing.finalize()
        rs = self._module.sign(self._role, digest)
        return encode_dss_signature(int.from_bytes(rs[:32], "big"), int.from_bytes(rs[32:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._module.public_key(self._role)

    @property
    def curve(self) -> ec.EllipticCurve:
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        return 256

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise UnsupportedAlgorithm("this key signs")

    def private_numbers(self) -> NoReturn:
        raise UnsupportedAlgorithm("this key does not leave the TPM")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise UnsupportedAlgorithm("this key does not leave the TPM")

    def __copy__(self) -> ModuleKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> ModuleKey:
        return self
