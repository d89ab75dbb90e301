"""TPM 2.0 commands: what is sent, and what an answer holds («part 3»). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.frame import EMPTY, Answer, Authorization, Code, Command, pack
from edgevirt.host.tpm.structures import (
    ECDSA_SHA256,
    NO_TICKET,
    SHA256,
    Point,
    Public,
    Reader,
    read_public,
    read_selection,
    read_signature,
    selection,
    sized,
)

_OWNER, _NULL_HANDLE = 0x4000_0001, 0x4000_0007
_CAP_PCRS, _CAP_PROPERTIES = 5, 6
_POLICY_SESSION: Final = 1


# -- keys --


def create_primary(what: str, template: bytes, owner: Authorization) -> Command:
    """The same template gives the same key for as long as the TPM isn't cleared."""
    sensitive = sized(sized(b"") + sized(b""))
    parameters = sensitive + sized(template) + sized(b"") + struct.pack(">I", 0)
    return pack(what, Code.CREATE_PRIMARY, (_OWNER,), parameters, auth=(owner,), handle=True)


def keep(loaded: int, persistent: int, owner: Authorization) -> Command:
    parameters = struct.pack(">I", persistent)
    return pack("keep a key", Code.EVICT_CONTROL, (_OWNER, loaded), parameters, auth=(owner,))


def flush(handle: int) -> Command:
    return pack("free a handle", Code.FLUSH_CONTEXT, (), struct.pack(">I", handle))


def public_of(handle: int) -> Command:
    return pack("read a key", Code.READ_PUBLIC, (handle,))


def read_public_answer(answer: Answer) -> Public:
    return read_public(answer.parameters.sized())


def sign(key: int, digest: bytes) -> Command:
    parameters = sized(digest) + ECDSA_SHA256 + NO_TICKET
    return pack("sign", Code.SIGN, (key,), parameters, auth=(EMPTY,))


def read_sign_answer(answer: Answer) -> tuple[int, int]:
    return read_signature(answer.parameters)


def agree(key: int, peer: Point) -> Command:
    parameters = sized(peer.to_bytes())
    return pack("agree on a key", Code.ECDH_ZGEN, (key,), parameters, auth=(EMPTY,))


def read_agree_answer(answer: Answer) -> Point:
    return Point.read(Reader(answer.parameters.sized()))


# -- registers --


def read_registers(registers: Iterable[int]) -> Command:
    return pack("read registers", Code.PCR_READ, (), selection(registers))


def read_registers_answer(answer: Answer) -> dict[int, bytes]:
    """Those that the TPM chose to tell this time, at most eight; none when it has no such bank."""
    reader = answer.parameters
    reader.u32()
    told = sorted(read_selection(reader).get(SHA256, ()))
    count = reader.u32()
    if count != len(told):
        raise TpmError("cannot read registers with the TPM: values without numbers")
    return {number: reader.sized() for number in told}


def extend(register: int, digest: bytes) -> Command:
    parameters = struct.pack(">IH", 1, SHA256) + digest
    return pack("extend a register", Code.PCR_EXTEND, (register,), parameters, auth=(EMPTY,))


def quote(key: int, nonce: bytes, registers: Iterable[int]) -> Command:
    scheme = struct.pack(">H", 0x0010)  # the key's own
    parameters = sized(nonce) + scheme + selection(registers)
    return pack("quote", Code.QUOTE, (key,), parameters, auth=(EMPTY,))


def read_quote_answer(answer: Answer) -> tuple[bytes, tuple[int, int]]:
    """TPMS_ATTEST, and its signature."""
    return answer.parameters.sized(), read_signature(answer.parameters)


# -- sealing --


def create_sealed(parent: int, template: bytes, secret: bytes) -> Command:
    sensitive = sized(sized(b"") + sized(secret))
    parameters = sensitive + sized(template) + sized(b"") + struct.pack(">I", 0)
    return pack("seal a key", Code.CREATE, (parent,), parameters, auth=(EMPTY,))


def read_create_answer(answer: Answer) -> tuple[bytes, bytes]:
    """TPM2B_PRIVATE's and TPM2B_PUBLIC's content."""
    return answer.parameters.sized(), answer.parameters.sized()


def load(parent: int, private: bytes, public: bytes) -> Command:
    parameters = sized(private) + sized(public)
    return pack("load a sealed key", Code.LOAD, (parent,), parameters, auth=(EMPTY,), handle=True)


def start_policy(nonce: bytes) -> Command:
    symmetric = struct.pack(">H", 0x0010)
    parameters = (
        sized(nonce) + sized(b"") + struct.pack(">B", _POLICY_SESSION) + symmetric
    ) + struct.pack(">H", SHA256)
    return pack(
        "start a session",
        Code.START_AUTH_SESSION,
        (_NULL_HANDLE, _NULL_HANDLE),
        parameters,
        handle=True,
    )


def require_registers(session: int, registers: Iterable[int]) -> Command:
    parameters = sized(b"") + selection(registers)
    return pack("bind to registers", Code.POLICY_PCR, (session,), parameters)


def unseal(loaded: int, session: int) -> Command:
    auth = (Authorization(session=session),)
    return pack("unseal a key", Code.UNSEAL, (loaded,), auth=auth)


def read_unseal_answer(answer: Answer) -> bytes:
    return answer.parameters.sized()


# -- memory --

_NV_ATTRIBUTES: Final = (1 << 1) | (1 << 2) | (1 << 17) | (1 << 18) | (1 << 25)
"""The owner writes; the owner, or whoever knows the (empty) password, reads; no lockout."""


def define_memory(index: int, size: int, owner: Authorization) -> Command:
    public = struct.pack(">IHI", index, SHA256, _NV_ATTRIBUTES) + sized(b"")
    parameters = sized(b"") + sized(public + struct.pack(">H", size))
    return pack("reserve memory", Code.NV_DEFINE_SPACE, (_OWNER,), parameters, auth=(owner,))


def release_memory(index: int, owner: Authorization) -> Command:
    return pack("release memory", Code.NV_UNDEFINE_SPACE, (_OWNER, index), auth=(owner,))


def memory_of(index: int) -> Command:
    return pack("find memory", Code.NV_READ_PUBLIC, (index,))


def read_memory_of_answer(answer: Answer) -> tuple[int, bool]:
    """Bytes of the index, and whether anything was ever written to it."""
    reader = Reader(answer.parameters.sized())
    reader.take(4 + 2)
    attributes = reader.u32()
    reader.sized()
    return reader.u16(), bool(attributes >> 29 & 1)


def write_memory(index: int, data: bytes, offset: int, owner: Authorization) -> Command:
    parameters = sized(data) + struct.pack(">H", offset)
    return pack("write memory", Code.NV_WRITE, (_OWNER, index), parameters, auth=(owner,))


def read_memory(index: int, size: int, offset: int, owner: Authorization) -> Command:
    parameters = struct.pack(">HH", size, offset)
    return pack("read memory", Code.NV_READ, (_OWNER, index), parameters, auth=(owner,))


def read_memory_answer(answer: Answer) -> bytes:
    return answer.parameters.sized()


# -- the TPM itself --

_MANUFACTURER, _FIRMWARE_1, _FIRMWARE_2, _REVISION = 0x105, 0x10B, 0x10C, 0x102
_VENDOR_1, _VENDOR_4 = 0x106, 0x109


def startup() -> Command:
    """As firmware does it at power-on."""
    return pack("start", Code.STARTUP, (), struct.pack(">H", 0))


def get_properties() -> Command:
    return pack(
        "ask for properties",
        Code.GET_CAPABILITY,
        (),
        struct.pack(">III", _CAP_PROPERTIES, 0x100, 64),
    )


def read_properties_answer(answer: Answer) -> dict[int, int]:
    reader = answer.parameters
    reader.u8()
    reader.u32()
    return {reader.u32(): reader.u32() for _ in range(min(reader.u32(), 128))}


class Make(msgspec.Struct, frozen=True):
    manufacturer: str
    firmware: str
    specification: str


def make_of(properties: Mapping[int, int]) -> Make:
    """Who made it: four letters, and four more of the maker's choice for each property."""
    vendor = range(_VENDOR_1, _VENDOR_4 + 1)
    names = (
        _letters(properties.get(_MANUFACTURER, 0)),
        "".join(_letters(properties.get(number, 0)) for number in vendor),
    )
    one, two = properties.get(_FIRMWARE_1, 0), properties.get(_FIRMWARE_2, 0)
    revision = properties.get(_REVISION, 0)
    return Make(
        " ".join(name for name in names if name),
        f"{one >> 16}.{one & 0xFFFF}.{two >> 16}.{two & 0xFFFF}",
        f"2.0 rev {revision // 100}.{revision % 100:02d}",
    )


def _letters(number: int) -> str:
    text = number.to_bytes(4, "big").decode("ascii", "replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()


def get_banks() -> Command:
    return pack("ask for registers", Code.GET_CAPABILITY, (), struct.pack(">III", _CAP_PCRS, 0, 1))


def read_banks_answer(answer: Answer) -> dict[int, frozenset[int]]:
    reader = answer.parameters
    reader.u8()
    reader.u32()
    return read_selection(reader)
