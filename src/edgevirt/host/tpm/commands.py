"""TPM 2.0 commands ⇄ bytes. Pure: what is sent, and what an answer holds («part 3»).

An authorization is a password (nearly always empty) or a policy session.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from edgevirt.host.tpm.failures import SUCCESS, TpmError, failure
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

ANSWER_MAX: Final = 4096
_PLAIN, _WITH_SESSIONS = 0x8001, 0x8002
_PASSWORD: Final = 0x4000_0009
_OWNER, _NULL_HANDLE = 0x4000_0001, 0x4000_0007
_CAP_PCRS, _CAP_PROPERTIES = 5, 6
_POLICY_SESSION: Final = 1


class Code(enum.IntEnum):
    """TPM_CC, part 2, 6.5.2."""

    EVICT_CONTROL = 0x120
    NV_UNDEFINE_SPACE = 0x122
    NV_DEFINE_SPACE = 0x12A
    CREATE_PRIMARY = 0x131
    NV_WRITE = 0x137
    STARTUP = 0x144
    NV_READ = 0x14E
    CREATE = 0x153
    ECDH_ZGEN = 0x154
    LOAD = 0x157
    QUOTE = 0x158
    SIGN = 0x15D
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    PCR_EXTEND = 0x182


class Command(msgspec.Struct, frozen=True):
    """`what`: in words, for «cannot …». `handle`: whether the answer begins with one."""

    what: str
    data: bytes
    handle: bool = False

    def read(self, answer: bytes) -> Answer:
        """Raises TpmError for any answer but success."""
        reader = Reader(answer)
        tag, size, code = reader.u16(), reader.u32(), reader.u32()
        if code != SUCCESS:
            raise failure(self.what, code)
        if size != len(answer):
            raise TpmError(f"cannot {self.what} with the TPM: its answer is cut short")
        handle = reader.u32() if self.handle else 0
        if tag == _WITH_SESSIONS:
            return Answer(handle, Reader(reader.take(reader.u32())))
        return Answer(handle, Reader(reader.take(reader.left)))


class Answer(msgspec.Struct, frozen=True):
    handle: int
    parameters: Reader


class Authorization(msgspec.Struct, frozen=True):
    """`session`: of a policy that is met; else `password`."""

    password: bytes = b""
    session: int = _PASSWORD

    def to_bytes(self) -> bytes:
        return struct.pack(">IHB", self.session, 0, 0) + sized(self.password)


EMPTY: Final = Authorization()


def response_code(answer: bytes) -> int:
    if len(answer) < 10:
        raise TpmError("cannot read the TPM's answer: it is cut short")
    return int.from_bytes(answer[6:10], "big")


def _command(
    what: str,
    code: Code,
    handles: Sequence[int] = (),
    parameters: bytes = b"",
    *,
    auth: Sequence[Authorization] = (),
    handle: bool = False,
) -> Command:
    body = b"".join(struct.pack(">I", number) for number in handles)
    if auth:
        area = b"".join(item.to_bytes() for item in auth)
        body += struct.pack(">I", len(area)) + area
    body += parameters
    tag = _WITH_SESSIONS if auth else _PLAIN
    return Command(what, struct.pack(">HII", tag, 10 + len(body), code) + body, handle)


# -- keys --


def create_primary(what: str, template: bytes, owner: Authorization) -> Command:
    """The same template gives the same key for as long as the TPM isn't cleared."""
    sensitive = sized(sized(b"") + sized(b""))
    parameters = sensitive + sized(template) + sized(b"") + struct.pack(">I", 0)
    return _command(what, Code.CREATE_PRIMARY, (_OWNER,), parameters, auth=(owner,), handle=True)


def keep(loaded: int, persistent: int, owner: Authorization) -> Command:
    parameters = struct.pack(">I", persistent)
    return _command("keep a key", Code.EVICT_CONTROL, (_OWNER, loaded), parameters, auth=(owner,))


def flush(handle: int) -> Command:
    return _command("free a handle", Code.FLUSH_CONTEXT, (), struct.pack(">I", handle))


def public_of(handle: int) -> Command:
    return _command("read a key", Code.READ_PUBLIC, (handle,))


def read_public_answer(answer: Answer) -> Public:
    return read_public(answer.parameters.sized())


def sign(key: int, digest: bytes) -> Command:
    parameters = sized(digest) + ECDSA_SHA256 + NO_TICKET
    return _command("sign", Code.SIGN, (key,), parameters, auth=(EMPTY,))


def read_sign_answer(answer: Answer) -> tuple[int, int]:
    return read_signature(answer.parameters)


def agree(key: int, peer: Point) -> Command:
    parameters = sized(peer.to_bytes())
    return _command("agree on a key", Code.ECDH_ZGEN, (key,), parameters, auth=(EMPTY,))


def read_agree_answer(answer: Answer) -> Point:
    return Point.read(Reader(answer.parameters.sized()))


# -- registers --


def read_registers(registers: Iterable[int]) -> Command:
    return _command("read registers", Code.PCR_READ, (), selection(registers))


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
    return _command("extend a register", Code.PCR_EXTEND, (register,), parameters, auth=(EMPTY,))


def quote(key: int, nonce: bytes, registers: Iterable[int]) -> Command:
    scheme = struct.pack(">H", 0x0010)  # the key's own
    parameters = sized(nonce) + scheme + selection(registers)
    return _command("quote", Code.QUOTE, (key,), parameters, auth=(EMPTY,))


def read_quote_answer(answer: Answer) -> tuple[bytes, tuple[int, int]]:
    """TPMS_ATTEST, and its signature."""
    return answer.parameters.sized(), read_signature(answer.parameters)


# -- sealing --


def create_sealed(parent: int, template: bytes, secret: bytes) -> Command:
    sensitive = sized(sized(b"") + sized(secret))
    parameters = sensitive + sized(template) + sized(b"") + struct.pack(">I", 0)
    return _command("seal a key", Code.CREATE, (parent,), parameters, auth=(EMPTY,))


def read_create_answer(answer: Answer) -> tuple[bytes, bytes]:
    """TPM2B_PRIVATE's and TPM2B_PUBLIC's content."""
    return answer.parameters.sized(), answer.parameters.sized()


def load(parent: int, private: bytes, public: bytes) -> Command:
    parameters = sized(private) + sized(public)
    return _command(
        "load a sealed key", Code.LOAD, (parent,), parameters, auth=(EMPTY,), handle=True
    )


def start_policy(nonce: bytes) -> Command:
    symmetric = struct.pack(">H", 0x0010)
    parameters = (
        sized(nonce) + sized(b"") + struct.pack(">B", _POLICY_SESSION) + symmetric
    ) + struct.pack(">H", SHA256)
    return _command(
        "start a session",
        Code.START_AUTH_SESSION,
        (_NULL_HANDLE, _NULL_HANDLE),
        parameters,
        handle=True,
    )


def require_registers(session: int, registers: Iterable[int]) -> Command:
    parameters = sized(b"") + selection(registers)
    return _command("bind to registers", Code.POLICY_PCR, (session,), parameters)


def unseal(loaded: int, session: int) -> Command:
    auth = (Authorization(session=session),)
    return _command("unseal a key", Code.UNSEAL, (loaded,), auth=auth)


def read_unseal_answer(answer: Answer) -> bytes:
    return answer.parameters.sized()


# -- memory --

_NV_ATTRIBUTES: Final = (1 << 1) | (1 << 2) | (1 << 17) | (1 << 18) | (1 << 25)
"""The owner writes; the owner, or whoever knows the (empty) password, reads; no lockout."""


def define_memory(index: int, size: int, owner: Authorization) -> Command:
    public = struct.pack(">IHI", index, SHA256, _NV_ATTRIBUTES) + sized(b"")
    parameters = sized(b"") + sized(public + struct.pack(">H", size))
    return _command("reserve memory", Code.NV_DEFINE_SPACE, (_OWNER,), parameters, auth=(owner,))


def release_memory(index: int, owner: Authorization) -> Command:
    return _command("release memory", Code.NV_UNDEFINE_SPACE, (_OWNER, index), auth=(owner,))


def memory_of(index: int) -> Command:
    return _command("find memory", Code.NV_READ_PUBLIC, (index,))


def read_memory_of_answer(answer: Answer) -> tuple[int, bool]:
    """Bytes of the index, and whether anything was ever written to it."""
    reader = Reader(answer.parameters.sized())
    reader.take(4 + 2)
    attributes = reader.u32()
    reader.sized()
    return reader.u16(), bool(attributes >> 29 & 1)


def write_memory(index: int, data: bytes, offset: int, owner: Authorization) -> Command:
    parameters = sized(data) + struct.pack(">H", offset)
    return _command("write memory", Code.NV_WRITE, (_OWNER, index), parameters, auth=(owner,))


def read_memory(index: int, size: int, offset: int, owner: Authorization) -> Command:
    parameters = struct.pack(">HH", size, offset)
    return _command("read memory", Code.NV_READ, (_OWNER, index), parameters, auth=(owner,))


def read_memory_answer(answer: Answer) -> bytes:
    return answer.parameters.sized()


# -- the TPM itself --

_MANUFACTURER, _FIRMWARE_1, _FIRMWARE_2, _REVISION = 0x105, 0x10B, 0x10C, 0x102
_VENDOR_1, _VENDOR_4 = 0x106, 0x109


def startup() -> Command:
    """As firmware does it at power-on."""
    return _command("start", Code.STARTUP, (), struct.pack(">H", 0))


def get_properties() -> Command:
    return _command(
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
    return _command(
        "ask for registers", Code.GET_CAPABILITY, (), struct.pack(">III", _CAP_PCRS, 0, 1)
    )


def read_banks_answer(answer: Answer) -> dict[int, frozenset[int]]:
    reader = answer.parameters
    reader.u8()
    reader.u32()
    return read_selection(reader)
