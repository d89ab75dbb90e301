"""A security module in software: registers, quotes, and the event log of a boot. For tests."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Iterable
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.wire import event_log
from edgevirt.wire.event_log import IPL, SHA256, Event
from edgevirt.wire.messages import attest

SEPARATOR = 0x04
VARIABLE = 0x80000001
APPLICATION = 0x80000003


def event(register: int, data: bytes, *, kind: int = IPL, measured: bytes | None = None) -> Event:
    """Measures `measured`; else what is logged."""
    digest = hashlib.sha256(data if measured is None else measured).digest()
    return Event(register, kind, digest, data)


def variable(register: int, name: str, value: bytes) -> Event:
    """An EFI variable, as firmware logs it."""
    head = bytes(16) + struct.pack("<QQ", len(name), len(value))
    return event(register, head + name.encode("utf-16-le") + value, kind=VARIABLE)


def application(register: int, path: str, code: bytes) -> Event:
    """A program that firmware started."""
    name = path.encode("utf-16-le") + b"\0\0"
    node = struct.pack("<BBH", 4, 4, 4 + len(name)) + name + struct.pack("<BBH", 0x7F, 0xFF, 4)
    data = struct.pack("<QQQQ", 0, len(code), 0, len(node)) + node
    return event(register, data, kind=APPLICATION, measured=code)


def pack_log(events: Iterable[Event]) -> bytes:
    """As firmware keeps it, with a bank of SHA-256 alone."""
    return event_log.append(b"", events)


def boot(version: str = "1", *, secure_boot: bool = True) -> list[Event]:
    """The events of one boot: firmware, boot loader, kernel, and what the node measures itself."""
    loader = application(4, "\\EFI\\BOOT\\BOOTX64.EFI", b"grub stage one")
    return [
        event(0, b"1.0\0", kind=0x08),
        variable(7, "SecureBoot", bytes((secure_boot,))),
        *(event(number, bytes(4), kind=SEPARATOR) for number in range(8)),
        loader,
        event(8, f"grub_cmd: linux /boot/vmlinuz version={version}\0".encode()),
        event(9, b"/boot/vmlinuz\0", measured=f"kernel {version}".encode()),
    ]


class Quoting(Protocol):
    """What a machine proves itself with."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def quote(self, nonce: bytes) -> attest.ZAttestQuote: ...


class SoftwareTpm:
    """Signs quotes. `own`: measurements that no log tells of, by register."""

    def __init__(self, events: Iterable[Event] = (), own: dict[int, bytes] | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.reset(events, own)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.key.public_key()

    def reset(self, events: Iterable[Event], own: dict[int, bytes] | None = None) -> None:
        """Another boot."""
        self.events = list(events)
        self.registers = {number: bytes(32) for number in range(24)}
        for one in self.events:
            self.extend(one.register, one.digest)
        for number, content in sorted((own or {}).items()):
            self.extend(number, hashlib.sha256(content).digest())

    def extend(self, register: int, digest: bytes) -> None:
        held = self.registers[register]
        self.registers[register] = hashlib.sha256(held + digest).digest()

    def hex(self, *registers: int) -> dict[str, list[str]]:
        """As a manifest lists them."""
        return {str(number): [self.registers[number].hex()] for number in registers}

    def quote(self, nonce: bytes, *, log: bytes | None = None) -> attest.ZAttestQuote:
        """Of registers 0 to 15. `log`: instead of the true one, in gzip."""
        digest = hashlib.sha256(b"".join(self.registers[n] for n in range(16))).digest()
        signed = b"".join(
            (
                struct.pack(">IH", 0xFF544347, 0x8018),
                struct.pack(">H", 3) + b"who",
                struct.pack(">H", len(nonce)) + nonce,
                bytes(25),
                struct.pack(">IHB", 1, SHA256, 3) + b"\xff\xff\x00",
                struct.pack(">H", 32) + digest,
            )
        )
        message = attest.ZAttestQuote(
            attestData=signed,
            signature=self.key.sign(signed, ec.ECDSA(hashes.SHA256())),
            tpm_binary_event_log=gzip.compress(pack_log(self.events)) if log is None else log,
        )
        for number, value in self.registers.items():
            message.pcr_values.add(index=number, hash_algo=attest.TPM_HASH_ALGO_SHA256, value=value)
        message.versions.add(version_type=attest.ATTEST_VERSION_TYPE_FIRMWARE, version="ACME-1.0")
        return message
