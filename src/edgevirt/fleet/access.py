"""Who may use the operators' API, and for what: tokens, client certificates, roles, kubeconfig."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgevirt.fleet.keys import write_private
from edgevirt.runtime.clock import Clock
from edgevirt.wire.certificates import Issuer

ADMINS = "edgevirt:admins"
"""May do everything."""
VIEWERS = "edgevirt:viewers"
"""May read everything but secrets."""
PROJECT = "edgevirt:project:"
"""`edgevirt:project:NAMESPACE` may do all in a namespace; with `:viewers` at its end, read."""
AUTHENTICATED = "system:authenticated"

READ = frozenset({"get", "list", "watch"})
SELF_REVIEWS = {
    "selfsubjectaccessreviews": "authorization.k8s.io",
    "selfsubjectrulesreviews": "authorization.k8s.io",
    "selfsubjectreviews": "authentication.k8s.io",
}
"""Resources that every user may create, with their groups."""
LIFETIME = timedelta(days=365)
"""Of a client certificate."""
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """What somebody wants to do. `namespace` empty: in all, or of a kind that has none."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Rule:
    """What a role allows, for `kubectl auth can-i --list`."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]


class Access(Protocol):
    def authenticate(self, authorization: str | None, certificate: bytes | None) -> User | None:
        """From the header `Authorization` or the peer's certificate in DER, which TLS verified."""
        ...

    def allows(self, user: User, action: Action) -> bool: ...

    def rules(self, user: User, namespace: str) -> list[Rule]: ...


class Roles:
    """What each group may do. Pure."""

    def allows(self, user: User, action: Action) -> bool:
        if action.resource in SELF_REVIEWS:
            return action.verb == "create"
        return any(_group_allows(group, action) for group in user.groups)

    def rules(self, user: User, namespace: str) -> list[Rule]:
        found = [Rule(("create",), (its,), (resource,)) for resource, its in SELF_REVIEWS.items()]
        reads = tuple(sorted(READ))
        for group in user.groups:
            if group in (ADMINS, f"{PROJECT}{namespace}"):
                found.append(Rule(("*",), ("*",), ("*",)))
            elif group in (VIEWERS, f"{PROJECT}{namespace}:viewers"):
                found.append(Rule(reads, ("edgevirt.io", "events.k8s.io"), ("*",)))
                found.append(Rule(reads, ("",), ("events", "namespaces")))
        return found


def _group_allows(group: str, action: Action) -> bool:
    if group == ADMINS:
        return True
    harmless = action.verb in READ and action.resource != "secrets"
    if group == VIEWERS:
        return harmless
    if not group.startswith(PROJECT):
        return False
    namespace, _, role = group.removeprefix(PROJECT).partition(":")
    if action.resource == "namespaces":
        return action.verb == "get" and action.name == namespace
    if not namespace or action.namespace != namespace:
        return False
    return harmless if role == "viewers" else role == ""


class Doors(Roles):
    """Both ways in: bearer tokens of a file, and certificates of the fleet's own client CA."""

    def __init__(self, tokens: Tokens, authority: x509.Certificate, clock: Clock) -> None:
        self._tokens = tokens
        self._authority = authority
        self._clock = clock

    def authenticate(self, authorization: str | None, certificate: bytes | None) -> User | None:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._tokens.find(token.strip())
        return self._from_certificate(certificate) if certificate else None

    def _from_certificate(self, der: bytes) -> User | None:
        """Judged again for each request: a connection may outlive the certificate."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.verify_directly_issued_by(self._authority)
        except (ValueError, TypeError, InvalidSignature):
            return None
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return None
        if _is_authority(certificate):
            return None
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if not names:
            return None
        return User(str(names[0].value), tuple(str(group.value) for group in groups))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


class Tokens:
    """A file of hashed tokens, read again when it changes. A token is 256 random bits, so that a
    plain hash is enough."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._users: dict[str, User] = {}

    def find(self, token: str) -> User | None:
        """Takes the same time wherever the token differs."""
        digest = _digest(token)
        found = None
        for known, user in self._read().items():
            if hmac.compare_digest(known, digest):
                found = user
        return found

    def add(self, user: User) -> str:
        """A new token, told only once."""
        token = secrets.token_urlsafe(32)
        self._write({**self._read(), _digest(token): user})
        return token

    def revoke(self, name: str) -> int:
        """Ends all tokens of a user; how many there were."""
        users = self._read()
        kept = {digest: user for digest, user in users.items() if user.name != name}
        self._write(kept)
        return len(users) - len(kept)

    def _read(self) -> dict[str, User]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return {}
        mark = (stat.st_mtime_ns, stat.st_ino)
        if mark != self._seen:
            entries = json.loads(self._path.read_text())
            self._users = {
                entry["sha256"]: User(entry["user"], tuple(entry["groups"])) for entry in entries
            }
            self._seen = mark
        return self._users

    def _write(self, users: dict[str, User]) -> None:
        entries = [
            {"user": user.name, "groups": list(user.groups), "sha256": digest}
            for digest, user in users.items()
        ]
        write_private(self._path, json.dumps(entries, indent=1).encode())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


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
