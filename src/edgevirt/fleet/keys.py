"""The fleet's own keys: made on the first start, kept in files, rotated while nodes run.

Each pair is one file (key, then certificate), so that a rename switches both at once. A change
makes a new immutable `Keys`; whoever sealed something under the old one asks `KeyRing.keys` again.

- root: what nodes are told to trust; signs the next three
- tls: the server certificate of both APIs
- signing: envelopes; nodes name it by the hash of its PEM bytes, hence they never change
- encryption: key agreement for secrets in configs; replaced ones stay published for a while, since
  nodes hold configs with blocks made under them
- operators: the CA of people's client certificates
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.runtime import Clock
from edgevirt.wire import certificates, controller_certs, envelope
from edgevirt.wire.certificates import Issuer, Validity

CA_LIFETIME: Final = timedelta(days=30 * 365)
LEAF_LIFETIME: Final = timedelta(days=10 * 365)
"""Of signing and encryption: a node that was off for years must still accept its checkpoint."""
TLS_LIFETIME: Final = timedelta(days=2 * 365)
BACKDATED: Final = timedelta(days=1)
"""Nodes' clocks may be behind."""
KEPT: Final = timedelta(days=400)
"""How long a replaced encryption certificate stays published."""
MAX_KEPT: Final = 8

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class KeysError(Exception):
    """The key directory cannot be used; the fleet must not start."""


class Role(enum.StrEnum):
    """What can be rotated."""

    SIGNING = "signing"
    ENCRYPTION = "encryption"
    TLS = "tls"


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate; `pem` is the certificate exactly as published."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    pem: bytes

    @property
    def issuer(self) -> Issuer:
        return Issuer(self.certificate, self.key)


@dataclass(frozen=True)
class Keys:
    """All keys at one moment.

    `encryptions`: the newest first. `certs_payload`: the serialized list for nodes. `certs_hash`:
    changes with the list, so that nodes fetch it again.
    """

    root: Pair
    tls: Pair
    signing: Pair
    encryptions: tuple[Pair, ...]
    operators: Pair
    secret: bytes
    signing_hash: bytes
    certs_payload: bytes
    certs_hash: str

    def seal(self, payload: bytes) -> bytes:
        """An envelope around `payload`, signed by the fleet."""
        return envelope.seal(payload, self.signing.key, self.signing_hash)

    def integrity_token(self, node: bytes, attested: int) -> bytes:
        """What a node (16 bytes of UUID) that proved itself so many times brings along."""
        proof = b"integrity" + node + attested.to_bytes(8, "big")
        return hashlib.blake2b(proof, key=self.secret, digest_size=32).hexdigest().encode()


class KeyRing:
    """The directory's owner. `keys` is the present state; `on_change` hears of each new one."""

    def __init__(self, directory: Path, hosts: Sequence[str], clock: Clock) -> None:
        """Reads the directory and makes what is missing in it. `hosts`: names and addresses under
        which nodes and people reach this fleet; empty: as before. Raises KeysError.
        """
        self._directory = directory
        self._hosts = tuple(hosts)
        self._clock = clock
        self._listeners: list[Callable[[Keys], None]] = []
        try:
            self._prepare()
            self._seen = self._look()
            self.keys = self._read()
        except OSError as error:
            raise KeysError(f"cannot use {directory}: {error}") from error

    def on_change(self, listener: Callable[[Keys], None]) -> None:
        self._listeners.append(listener)

    def rotate(self, role: Role) -> Keys:
        """Replaces one pair; effective when it returns, for everything sealed from now on."""
        if role is Role.ENCRYPTION:
            self._add_encryption()
            self._drop_old_encryptions()
        elif role is Role.SIGNING:
            self._write("signing", self._make_signing())
        else:
            self._write("tls", self._make_tls())
        self.reload()
        return self.keys

    def reload(self) -> bool:
        """Takes up what was rotated, by this process or another one; whether anything was."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        self.keys = self._read()
        for listener in self._listeners:
            listener(self.keys)
        return True

    def rotate_due(self) -> tuple[Role, ...]:
        """Rotates what has less than a third of its life left; to be called daily."""
        present = {
            Role.SIGNING: self.keys.signing,
            Role.ENCRYPTION: self.keys.encryptions[0],
            Role.TLS: self.keys.tls,
        }
        due = tuple(role for role, pair in present.items() if self._is_due(pair.certificate))
        for role in due:
            self.rotate(role)
        return due

    @property
    def tls_file(self) -> Path:
        """Key and certificate in one file, as `ssl.SSLContext.load_cert_chain` takes it."""
        return self._path("tls")

    @property
    def root_file(self) -> Path:
        """The root certificate alone; a node needs it as `root-certificate.pem`."""
        return self._directory / "root-certificate.pem"

    @property
    def operators_file(self) -> Path:
        """The operators' CA certificate alone, for verifying clients."""
        return self._directory / "operators-certificate.pem"

    # -- files --

    def _look(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a pair does: renamed files are new ones."""
        files = (self._path("signing"), self._path("tls"), *self._encryption_files())
        stats = ((path.name, path.stat()) for path in files)
        return tuple((name, stat.st_ino, stat.st_mtime_ns) for name, stat in stats)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pem"

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        (self._directory / "encryption").mkdir(mode=0o700, exist_ok=True)
        if not self._path("root").exists():
            self._write("root", self._make_ca("edgevirt root"))
        if not self._path("operators").exists():
            self._write("operators", self._make_ca("edgevirt operators"))
        if not self._path("signing").exists():
            self._write("signing", self._make_signing())
        if not self._encryption_files():
            self._add_encryption()
        if self._path("tls").exists():
            self._hosts = self._hosts or self._present_hosts()
        if not self._hosts:
            raise KeysError("cannot make keys: no host name to put into the TLS certificate")
        if not self._path("tls").exists() or set(self._hosts) != set(self._present_hosts()):
            self._write("tls", self._make_tls())
        if not (self._directory / "secret").exists():
            write_private(self._directory / "secret", secrets.token_bytes(32))
        write_private(self.root_file, self._load(self._path("root")).pem + b"\n")
        write_private(self.operators_file, self._load(self._path("operators")).pem + b"\n")

    def _read(self) -> Keys:
        signing = self._load(self._path("signing"))
        encryptions = tuple(self._load(path) for path in reversed(self._encryption_files()))
        published = controller_certs.publish(signing.pem, [pair.pem for pair in encryptions])
        return Keys(
            root=self._load(self._path("root")),
            tls=self._load(self._path("tls")),
            signing=signing,
            encryptions=encryptions,
            operators=self._load(self._path("operators")),
            secret=(self._directory / "secret").read_bytes(),
            signing_hash=certificates.pem_hash(signing.pem),
            certs_payload=published.SerializeToString(),
            certs_hash=controller_certs.list_hash(published),
        )

    def _encryption_files(self) -> list[Path]:
        """Oldest first; their names are growing numbers."""
        return sorted((self._directory / "encryption").glob("[0-9]*.pem"))

    def _add_encryption(self) -> None:
        files = self._encryption_files()
        number = int(files[-1].stem) + 1 if files else 1
        self._write(f"encryption/{number:08}", self._make_encryption())

    def _drop_old_encryptions(self) -> None:
        """A certificate is replaced when its successor begins; it goes `KEPT` after that."""
        files = self._encryption_files()
        now = self._now()
        for number, (path, successor) in enumerate(itertools.pairwise(files)):
            replaced = self._load(successor).certificate.not_valid_before_utc + BACKDATED
            if replaced + KEPT < now or len(files) - number > MAX_KEPT:
                path.unlink()

    def _write(self, name: str, pair: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]) -> None:
        key, certificate = pair
        encoded = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(self._path(name), encoded + certificates.to_pem(certificate))

    def _load(self, path: Path) -> Pair:
        text = path.read_bytes()
        pem = text[text.find(_BEGIN) :].strip()
        try:
            key = serialization.load_pem_private_key(text, None)
            certificate = certificates.load_pem(pem)
        except ValueError as error:
            raise KeysError(f"cannot read {path}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeysError(f"cannot use {path}: not an elliptic curve key")
        if key.public_key() != certificate.public_key():
            raise KeysError(f"cannot use {path}: key and certificate don't belong together")
        return Pair(key, certificate, pem)

    # -- certificates --

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _validity(self, lifetime: timedelta) -> Validity:
        now = self._now()
        return Validity(now - BACKDATED, now + lifetime)

    def _is_due(self, certificate: x509.Certificate) -> bool:
        whole = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return certificate.not_valid_after_utc - self._now() < whole / 3

    def _root(self) -> Issuer:
        return self._load(self._path("root")).issuer

    def _make_ca(self, name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = _new_key()
        return key, certificates.make_root(name, key, self._validity(CA_LIFETIME))

    def _make_signing(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key, validity = _new_key(), self._validity(LEAF_LIFETIME)
        return key, certificates.make_signing(
            "edgevirt signing", key.public_key(), self._root(), validity
        )

    def _make_encryption(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key, validity = _new_key(), self._validity(LEAF_LIFETIME)
        return key, certificates.make_exchange(
            "edgevirt encryption", key.public_key(), self._root(), validity
        )

    def _make_tls(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key, validity = _new_key(), self._validity(TLS_LIFETIME)
        return key, certificates.make_server(self._hosts, key.public_key(), self._root(), validity)

    def _present_hosts(self) -> tuple[str, ...]:
        certificate = self._load(self._path("tls")).certificate
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(name.value) for name in names)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, readable by the owner alone, on disk when it returns."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
