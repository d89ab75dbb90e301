"""TPM 2.0 structures ⇄ bytes, big-endian. Pure. Numbers in docstrings: «part 2» of the TPM library.

Only what this node needs: P-256 keys, SHA-256, one bank of registers.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.wire import binary

SHA256: Final = 0x000B
_AES, _CFB, _NULL = 0x0006, 0x0043, 0x0010
_ECC, _KEYEDHASH, _ECDSA = 0x0023, 0x0008, 0x0018
P256: Final = 0x0003
DIGEST_SIZE: Final = 32
REGISTERS: Final = 24
_POLICY_PCR: Final = 0x0000017F
QUOTE_TAG: Final = 0x8018
MAGIC: Final = 0xFF544347


class Attributes(enum.IntFlag):
    """TPMA_OBJECT, 8.3."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


BORN_HERE: Final = Attributes.FIXED_TPM | Attributes.FIXED_PARENT | Attributes.SENSITIVE_DATA_ORIGIN
"""The key was made in this TPM and cannot leave it."""
_KEY: Final = BORN_HERE | Attributes.USER_WITH_AUTH | Attributes.NO_DA


class Reader(binary.Reader):
    def __init__(self, data: bytes) -> None:
        super().__init__(data, lambda: TpmError("cannot read the TPM's answer: it is cut short"))

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


class Point(msgspec.Struct, frozen=True):
    """Of P-256."""

    x: int
    y: int

    def to_bytes(self) -> bytes:
        """TPMS_ECC_POINT, 11.2.5.2."""
        return sized(self.x.to_bytes(32, "big")) + sized(self.y.to_bytes(32, "big"))

    @classmethod
    def read(cls, reader: Reader) -> Point:
        return cls(int.from_bytes(reader.sized(), "big"), int.from_bytes(reader.sized(), "big"))


class Public(msgspec.Struct, frozen=True):
    """What matters of a TPMT_PUBLIC (12.2.4). `area`: all of it, without a size in front."""

    area: bytes
    attributes: Attributes
    point: Point | None


def read_public(area: bytes) -> Public:
    reader = Reader(area)
    kind, _ = reader.u16(), reader.u16()
    attributes = Attributes(reader.u32())
    reader.sized()  # the policy
    if kind != _ECC:
        return Public(area, attributes, None)
    if reader.u16() != _NULL:
        reader.take(4)  # bits and mode of the symmetric cipher
    if reader.u16() != _NULL:
        reader.take(2)  # hash of the scheme
    curve = reader.u16()
    if reader.u16() != _NULL:
        reader.take(2)  # hash of the key derivation
    point = Point.read(reader)
    return Public(area, attributes, point if curve == P256 else None)


# -- templates (TPMT_PUBLIC) --


def _ecc(attributes: Attributes, symmetric: bytes, scheme: bytes) -> bytes:
    head = struct.pack(">HHI", _ECC, SHA256, attributes) + sized(b"")
    tail = struct.pack(">HH", P256, _NULL) + sized(b"") + sized(b"")
    return head + symmetric + scheme + tail


_NO_ALGORITHM: Final = struct.pack(">H", _NULL)

SIGNING_KEY: Final = _ecc(_KEY | Attributes.SIGN, _NO_ALGORITHM, _NO_ALGORITHM)
"""Signs any digest."""
QUOTE_KEY: Final = _ecc(
    _KEY | Attributes.SIGN | Attributes.RESTRICTED,
    _NO_ALGORITHM,
    struct.pack(">HH", _ECDSA, SHA256),
)
"""Signs only what the TPM itself says."""
EXCHANGE_KEY: Final = _ecc(_KEY | Attributes.DECRYPT, _NO_ALGORITHM, _NO_ALGORITHM)
STORAGE_KEY: Final = _ecc(
    _KEY | Attributes.DECRYPT | Attributes.RESTRICTED,
    struct.pack(">HHH", _AES, 128, _CFB),
    _NO_ALGORITHM,
)
"""Other objects are kept under it."""


def sealed_object(policy: bytes) -> bytes:
    """Template of a secret that comes out only by `policy`."""
    attributes = Attributes.FIXED_TPM | Attributes.FIXED_PARENT | Attributes.NO_DA
    head = struct.pack(">HHI", _KEYEDHASH, SHA256, attributes) + sized(policy)
    return head + _NO_ALGORITHM + sized(b"")


# -- registers --


def selection(registers: Iterable[int]) -> bytes:
    """TPML_PCR_SELECTION of the SHA-256 bank, 10.9.7."""
    bits = sum(1 << register for register in set(registers))
    return struct.pack(">IHB", 1, SHA256, 3) + bits.to_bytes(3, "little")


def read_selection(reader: Reader) -> dict[int, frozenset[int]]:
    """Registers by the algorithm of their bank."""
    found = {}
    for _ in range(min(reader.u32(), 16)):
        bank, size = reader.u16(), reader.u8()
        bits = int.from_bytes(reader.take(size), "little")
        found[bank] = frozenset(n for n in range(8 * size) if bits >> n & 1)
    return found


def digest_of(values: Mapping[int, bytes]) -> bytes:
    """As quotes and policies name a set of registers: by the digest of their values in order."""
    return hashlib.sha256(b"".join(values[number] for number in sorted(values))).digest()


def register_policy(values: Mapping[int, bytes]) -> bytes:
    """The policy that is met while the registers have these values (part 3, TPM2_PolicyPCR)."""
    named = struct.pack(">I", _POLICY_PCR) + selection(values)
    return hashlib.sha256(bytes(DIGEST_SIZE) + named + digest_of(values)).digest()


def extended(value: bytes, digest: bytes) -> bytes:
    """What a register holds after a digest came to it."""
    return hashlib.sha256(value + digest).digest()


# -- signatures --


def read_signature(reader: Reader) -> tuple[int, int]:
    """TPMT_SIGNATURE of ECDSA, 11.3.4: r and s."""
    if reader.u16() != _ECDSA or reader.u16() != SHA256:
        raise TpmError("cannot read the TPM's signature: not ECDSA with SHA-256")
    return int.from_bytes(reader.sized(), "big"), int.from_bytes(reader.sized(), "big")


ECDSA_SHA256: Final = struct.pack(">HH", _ECDSA, SHA256)
NO_TICKET: Final = struct.pack(">HI", 0x8024, 0x40000007) + sized(b"")
"""TPMT_TK_HASHCHECK for a digest that was made elsewhere."""


class Quoted(msgspec.Struct, frozen=True):
    """What a quote says. `reset`, `restarts`: counters of the TPM's own starts."""

    nonce: bytes
    registers: frozenset[int]
    digest: bytes
    reset: int
    restarts: int


def read_quote(attest: bytes) -> Quoted:
    """TPMS_ATTEST (10.12.12) with a TPMS_QUOTE_INFO."""
    reader = Reader(attest)
    if reader.u32() != MAGIC or reader.u16() != QUOTE_TAG:
        raise TpmError("cannot read the TPM's quote: it is none")
    reader.sized()
    nonce = reader.sized()
    reader.take(8)
    reset, restarts = reader.u32(), reader.u32()
    reader.take(1 + 8)
    chosen = read_selection(reader).get(SHA256, frozenset())
    return Quoted(nonce, chosen, reader.sized(), reset, restarts)
