"""How a command to a TPM 2.0 becomes bytes, and an answer is taken apart («part 1», 18). Pure.

An authorization is a password (nearly always empty) or a policy session.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from edgevirt.host.tpm.failures import SUCCESS, TpmError, failure
from edgevirt.host.tpm.structures import Reader, sized

ANSWER_MAX: Final = 4096
_PLAIN, _WITH_SESSIONS = 0x8001, 0x8002
_PASSWORD: Final = 0x4000_0009


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


def pack(
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
