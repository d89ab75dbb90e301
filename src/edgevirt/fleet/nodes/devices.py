"""What the fleet keeps of each machine besides its EdgeNode: who it is, and how it proves it.

Internal kinds: no API shows them. All are keyed by the node's UUID, which follows from the
machine's certificate, so that a machine that is enrolled again is the same node.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

import msgspec

from edgevirt.runtime import Kind

_NODES: Final = uuid.UUID("0c6b9a4e-6d0d-5ad5-8d0a-2d3a8b0f3a53")


class Device(msgspec.Struct, frozen=True, array_like=True):
    """A machine that is bound to an EdgeNode; as small as it can be, since all are in memory.

    `node`: UUID, 16 bytes. `cert_hash`: SHA-256 of the certificate's DER. `key`: x‖y on P-256.
    `edge_node`: key of the EdgeNode in the store, `uid` its UID. `attested`: how often the machine
    proved itself; the integrity token follows from it. `exchange_hash`: short hash by which the
    machine named its key exchange certificate, empty while it sent none. `barred`: it gets nothing
    until it proves itself anew.
    """

    node: bytes
    cert_hash: bytes
    key: bytes
    edge_node: str
    uid: str
    serial: str = ""
    soft_serial: str = ""
    onboarding_hash: bytes = b""
    attested: int = 0
    exchange_hash: bytes = b""
    barred: bool = False


class HeldCert(msgspec.Struct, frozen=True, array_like=True):
    """A certificate that a machine sent: `type` and `cert_hash` as in its `ZCert`."""

    type: int
    cert_hash: bytes
    pem: bytes
    mutable: bool = False


class HeldKey(msgspec.Struct, frozen=True, array_like=True):
    """A volume key in escrow, exactly as the machine sent it."""

    type: int
    key: bytes


class DeviceTrust(msgspec.Struct, frozen=True, array_like=True):
    """What a machine proves itself with. `pins`: registers that were trusted on first use."""

    certs: tuple[HeldCert, ...] = ()
    escrow: tuple[HeldKey, ...] = ()
    pins: tuple[tuple[int, bytes], ...] = ()


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """The last genuine quote of a machine, with all that came along; for judging it again, and for
    people. As large as the request that it came in, at most twice.

    `values`: the registers that were quoted. `log`: of its events, in gzip, as it sent it;
    `accepted`: the log of the last time that it was accepted.
    """

    at: float
    quote: bytes
    signature: bytes
    values: tuple[tuple[int, bytes], ...]
    log: bytes = b""
    firmware: str = ""
    accepted: bytes = b""


class SerialClaim(msgspec.Struct, frozen=True, array_like=True):
    """Who registered first with an onboarding certificate and a serial. Key: `claim_key`."""

    cert_hash: bytes


DEVICE: Final = Kind("Device", Device, persistent=True)
DEVICE_TRUST: Final = Kind("DeviceTrust", DeviceTrust, persistent=True)
EVIDENCE: Final = Kind("Evidence", Evidence, persistent=True)
SERIAL_CLAIM: Final = Kind("SerialClaim", SerialClaim, persistent=True)


def node_id(cert_hash: bytes) -> uuid.UUID:
    """The UUID of the machine with this certificate (SHA-256 of its DER)."""
    return uuid.uuid5(_NODES, cert_hash.hex())


def device_key(node: bytes) -> str:
    """Key of these kinds: the node's UUID as text."""
    return str(uuid.UUID(bytes=node))


def claim_key(onboarding_hash: bytes, serial: str) -> str:
    return hashlib.sha256(onboarding_hash + serial.encode()).hexdigest()
