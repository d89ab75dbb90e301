"""TPM quotes: what a machine's security module signed about the software that booted. Pure.

Structures by TPM 2.0 part 2, big-endian: TPMS_ATTEST (10.12.12) with a TPMS_QUOTE_INFO (10.12.4).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.wire.binary import Reader

_MAGIC: Final = 0xFF544347
_QUOTE: Final = 0x8018
_SHA256: Final = 0x000B
_CLOCK_AND_FIRMWARE: Final = 17 + 8


class QuoteError(ValueError):
    """The quote proves nothing."""


class NonceError(QuoteError):
    """It answers another question than ours."""


@dataclass(frozen=True)
class Quoted:
    """What the security module signed. `pcrs`: numbers of the registers in `digest`."""

    nonce: bytes
    pcrs: tuple[int, ...]
    digest: bytes


def check(
    attest: bytes,
    signature: bytes,
    values: Mapping[int, bytes],
    key: ec.EllipticCurvePublicKey,
    nonce: bytes,
) -> Quoted:
    """Raises QuoteError unless `key` signed `attest` (DER signature), it holds `nonce`, and its
    digest is that of `values` (by register; those that were not quoted are not looked at).
    """
    try:
        key.verify(signature, attest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise QuoteError("cannot trust quote: it is not signed by the machine's key") from None
    quoted = parse(attest)
    if not hmac.compare_digest(quoted.nonce, nonce):
        raise NonceError("cannot trust quote: it holds another nonce")
    lacking = set(quoted.pcrs) - values.keys()
    if lacking or not quoted.pcrs:
        raise QuoteError("cannot trust quote: it comes without the values of its registers")
    digest = hashlib.sha256(b"".join(values[number] for number in quoted.pcrs)).digest()
    if not hmac.compare_digest(digest, quoted.digest):
        raise QuoteError("cannot trust quote: the values are not those that were signed")
    return quoted


def parse(attest: bytes) -> Quoted:
    """TPMS_ATTEST without the size in front; of several banks, SHA-256 must be the only one."""
    reader = Reader(attest, lambda: QuoteError("cannot read quote: it is cut short"))
    magic, kind = reader.unpack(">IH")
    if magic != _MAGIC or kind != _QUOTE:
        raise QuoteError("cannot read quote: it is no quote")
    reader.sized()  # who signed; the signature tells
    nonce = reader.sized()
    reader.take(_CLOCK_AND_FIRMWARE)
    (count,) = reader.unpack(">I")
    if count != 1:
        raise QuoteError("cannot read quote: it must be about one bank of registers")
    bank, size = reader.unpack(">HB")
    bitmap = reader.take(size)
    digest = reader.sized()
    if bank != _SHA256:
        raise QuoteError("cannot read quote: its registers are not of SHA-256")
    if reader.left:
        raise QuoteError("cannot read quote: something follows it")
    chosen = int.from_bytes(bitmap, "little")
    return Quoted(nonce, tuple(n for n in range(8 * size) if chosen >> n & 1), digest)
