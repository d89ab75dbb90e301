"""What a person is given: a client certificate, and a kubeconfig that holds it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgevirt.fleet.keys import write_private
from edgevirt.fleet.operators.roles import User
from edgevirt.wire.certificates import Issuer

LIFETIME = timedelta(days=365)
"""Of a client certificate."""
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Credential:
    """A client certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


def issue(issuer: Issuer, user: User, now: float, lifetime: timedelta = LIFETIME) -> Credential:
    """A certificate that names the user (CN) and the groups (O)."""
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.fromtimestamp(now, UTC)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in user.groups]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user.name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATED)
        .not_valid_after(min(begin + lifetime, issuer.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
        .sign(issuer.key, hashes.SHA256())
    )
    return Credential(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def write_kubeconfig(
    path: Path,
    server_url: str,
    ca_pem: bytes,
    credential: Credential | str,
    *,
    name: str = "edgevirt",
    user: str = "admin",
    namespace: str = "default",
) -> None:
    """A file for kubectl, mode 0600. `credential`: a certificate with its key, or a token."""
    if isinstance(credential, str):
        secret: dict[str, Any] = {"token": credential}
    else:
        secret = {
            "client-certificate-data": _base64(credential.certificate),
            "client-key-data": _base64(credential.key),
        }
    cluster = {"server": server_url, "certificate-authority-data": _base64(ca_pem)}
    context = {"cluster": name, "user": f"{name}-{user}", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"{name}-{user}", "user": secret}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False).encode())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
