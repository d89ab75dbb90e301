"""Both ways into the operators' API: tokens and client certificates."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from edgevirt.fleet.keys import write_private
from edgevirt.fleet.operators.roles import Roles, User
from edgevirt.runtime.clock import Clock


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
