"""Who waits to be let in: EdgeNodes without a machine, machines without an answer, open keys."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.objects.base.names import is_subdomain
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.onboarding import ANY_SERIAL, EnrollmentRequest, OnboardingKey
from edgevirt.wire import certificates, signatures
from edgevirt.wire.certificates import CertificateError
from edgevirt.wire.errors import Reason, WireError

_NOT_A_NAME: Final = re.compile(r"[^a-z0-9.-]+")

Place = tuple[str, str]
"""Namespace and serial number."""


class Outcome(enum.Enum):
    """What a registration came to."""

    NEW = "new"
    REPEATED = "repeated"
    TAKEN = "taken"  # the serial belongs to a machine with another certificate
    REFUSED = "refused"  # no key lets it in, or people said no


@dataclass(frozen=True)
class Machine:
    """Who asks: its own certificate, and the serial numbers that it says it has.

    `cert_hash`: SHA-256 of the DER. `key`: x‖y on P-256.
    """

    pem: str
    cert_hash: bytes
    key: bytes
    serial: str
    soft_serial: str

    @property
    def fingerprint(self) -> str:
        return self.cert_hash.hex()

    @property
    def serials(self) -> tuple[str, ...]:
        return tuple(serial for serial in (self.serial, self.soft_serial) if serial)

    @property
    def name(self) -> str:
        """An object's name from a serial, or from the certificate where that makes none."""
        text = next(iter(self.serials), "").lower()
        name = _NOT_A_NAME.sub("-", text).strip("-.")[:200].strip("-.")
        return name if name and is_subdomain(name) else f"node-{self.fingerprint[:12]}"


def read_machine(pem: bytes, serial: str, soft_serial: str) -> Machine:
    """Raises WireError for a certificate that no node could work with."""
    certificate = certificates.load_pem(pem)
    key = certificates.public_key_of(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError(Reason.BAD_KEY, "cannot register: the key must be of P-256")
    packed = signatures.pack_key(key)
    text = certificates.to_pem(certificate).decode("ascii")
    return Machine(text, certificates.der_hash(certificate), packed, serial, soft_serial)


def machine_of(request: EnrollmentRequest) -> Machine | None:
    """None for a request that people made with a certificate that cannot be used."""
    spec = request.spec
    try:
        return read_machine(spec.device_certificate.encode(), spec.serial, spec.soft_serial)
    except WireError:
        return None


class OpenKeys:
    """OnboardingKeys by their certificates."""

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[str, OnboardingKey]] = {}

    def put(self, key: OnboardingKey) -> None:
        self.drop(key)
        try:
            certificate = certificates.load_pem(key.spec.certificate.encode())
        except CertificateError:
            return  # the API lets none in; a key without a certificate opens nothing
        self._keys.setdefault(certificates.der_hash(certificate), {})[key.key] = key

    def drop(self, key: OnboardingKey) -> None:
        for keys in self._keys.values():
            keys.pop(key.key, None)

    def find(self, onboarding_hash: bytes, machine: Machine) -> tuple[OnboardingKey, str] | None:
        """The key that lets the machine in, and the serial by which; one that names the serial
        before one for all.
        """
        keys = [key for _, key in sorted(self._keys.get(onboarding_hash, {}).items())]
        for serial in machine.serials:
            for key in keys:
                if serial in key.spec.serials:
                    return key, serial
        for key in keys:
            if ANY_SERIAL in key.spec.serials and machine.serials:
                return key, machine.serials[0]
        return None

    def hash_of(self, key: str) -> bytes:
        """Of the certificate of a key, by its key in the store; empty when it is not there."""
        return next((h for h, keys in self._keys.items() if key in keys), b"")


class Places:
    """Names of objects by the serial numbers that they wait for or ask with."""

    def __init__(self) -> None:
        self._names: dict[Place, set[str]] = {}
        self._places: dict[str, tuple[Place, ...]] = {}

    def put(self, name: str, namespace: str, *serials: str) -> None:
        self.drop(name)
        places = ((namespace, serial) for serial in serials if serial)
        self._places[name] = tuple(dict.fromkeys(places))  # both serials may be the same
        for place in self._places[name]:
            self._names.setdefault(place, set()).add(name)

    def drop(self, name: str) -> None:
        for place in self._places.pop(name, ()):
            names = self._names[place]
            names.discard(name)
            if not names:
                del self._names[place]

    def has(self, name: str) -> bool:
        return name in self._places

    def find(self, namespace: str, *serials: str) -> Iterator[str]:
        for serial in serials:
            if serial:
                yield from sorted(self._names.get((namespace, serial), ()))


class Requests:
    """Machines that have asked and not been answered, by certificate and by place."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, str] = {}
        self._hashes: dict[str, bytes] = {}
        self._places = Places()

    def put(self, name: str, namespace: str, machine: Machine) -> None:
        self.drop(name)
        self._by_hash[machine.cert_hash] = name
        self._hashes[name] = machine.cert_hash
        self._places.put(name, namespace, *machine.serials)

    def drop(self, name: str) -> None:
        cert_hash = self._hashes.pop(name, None)
        if cert_hash is not None and self._by_hash.get(cert_hash) == name:
            del self._by_hash[cert_hash]
        self._places.drop(name)

    def asks(self, cert_hash: bytes) -> bool:
        """`cert_hash`: 32 bytes."""
        return cert_hash in self._by_hash

    def for_node(self, node: EdgeNode) -> list[str]:
        spec = node.spec
        return list(self._places.find(node.metadata.namespace, spec.serial, spec.soft_serial))
