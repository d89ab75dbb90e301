"""What the node asks of a security module. A machine without one has None in its place."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec


class KeyRole(enum.Enum):
    """Keys of the node, made in the module at its first use and kept there for good."""

    DEVICE = "device"
    """Signs any digest: the node's identity."""
    QUOTE = "quote"
    """Signs only what the module itself says."""
    EXCHANGE = "exchange"


class Sealed(msgspec.Struct, frozen=True):
    """A secret that only the module it came from can read, while its registers have `values`."""

    private: bytes
    public: bytes
    values: dict[int, bytes]


class Facts(msgspec.Struct, frozen=True):
    manufacturer: str
    firmware: str
    specification: str


class Signed(msgspec.Struct, frozen=True):
    """A quote. `attest`: TPMS_ATTEST. `signature`: DER. `values`: of the registers, by number."""

    attest: bytes
    signature: bytes
    values: Mapping[int, bytes]


class SecurityModule(Protocol):
    """Every call may take seconds and raises TpmError; calls from several threads take turns."""

    def facts(self) -> Facts: ...

    def public_key(self, role: KeyRole) -> ec.EllipticCurvePublicKey:
        """Makes the key if there is none yet."""
        ...

    def has_key(self, role: KeyRole) -> bool: ...

    def sign(self, role: KeyRole, digest: bytes) -> bytes:
        """r‖s over a SHA-256 digest."""
        ...

    def agree(self, peer: ec.EllipticCurvePublicKey) -> tuple[int, int]:
        """The point that the exchange key shares with `peer`."""
        ...

    def registers(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Values in the SHA-256 bank."""
        ...

    def extend(self, register: int, digest: bytes) -> None: ...

    def quote(self, nonce: bytes, registers: Iterable[int]) -> Signed: ...

    def seal(self, secret: bytes, values: Mapping[int, bytes]) -> Sealed:
        """For a time when the registers have these values, the present ones or others."""
        ...

    def unseal(self, sealed: Sealed) -> bytes:
        """Raises TpmMismatch while the registers have other values."""
        ...

    def read_memory(self, index: int) -> bytes:
        """What was written there; empty when nothing ever was. It survives a new disk."""
        ...

    def write_memory(self, index: int, content: bytes) -> None: ...

    def close(self) -> None: ...
