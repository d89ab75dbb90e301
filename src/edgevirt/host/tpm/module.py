"""The node's TPM 2.0: its keys, quotes, sealed secrets and small memory.

Handles are those that EVE uses, so that a machine keeps its identity when one takes the other's
place. A key that lies there already is used only if it was made in this TPM and cannot leave it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edgevirt.host.tpm import commands
from edgevirt.host.tpm.failures import HANDLE, PCR_CHANGED, TpmError
from edgevirt.host.tpm.frame import Authorization
from edgevirt.host.tpm.line import Line
from edgevirt.host.tpm.protocol import Facts, KeyRole, Sealed, Signed
from edgevirt.host.tpm.structures import (
    BORN_HERE,
    DIGEST_SIZE,
    EXCHANGE_KEY,
    QUOTE_KEY,
    SHA256,
    SIGNING_KEY,
    STORAGE_KEY,
    Attributes,
    Point,
    Public,
    digest_of,
    read_public,
    read_quote,
    register_policy,
    sealed_object,
)

_STORAGE_HANDLE: Final = 0x8100_0002
_HANDLES: Final = {
    KeyRole.DEVICE: 0x817F_FFFF,
    KeyRole.QUOTE: 0x8100_0004,
    KeyRole.EXCHANGE: 0x8100_0005,
}
_TEMPLATES: Final = {
    KeyRole.DEVICE: SIGNING_KEY,
    KeyRole.QUOTE: QUOTE_KEY,
    KeyRole.EXCHANGE: EXCHANGE_KEY,
}
_NEEDED: Final = {
    KeyRole.DEVICE: Attributes.SIGN,
    KeyRole.QUOTE: Attributes.SIGN | Attributes.RESTRICTED,
    KeyRole.EXCHANGE: Attributes.DECRYPT,
}
_CHUNK: Final = 512
"""Bytes of memory that any TPM reads or writes at once."""
_MEMORY_MAX: Final = 2048
_QUOTE_TRIES: Final = 3


class Tpm:
    """SecurityModule over a Line. `owner_password`: EVE's `tpm_credential`, if there is one."""

    def __init__(self, line: Line, owner_password: bytes = b"") -> None:
        self._line = line
        self._owner = Authorization(owner_password)
        self._points: dict[KeyRole, Point] = {}

    def close(self) -> None:
        self._line.close()

    def facts(self) -> Facts:
        answer = self._line.run(commands.get_properties())
        make = commands.make_of(commands.read_properties_answer(answer))
        return Facts(make.manufacturer, make.firmware, make.specification)

    # -- keys --

    def has_key(self, role: KeyRole) -> bool:
        return self._find(_HANDLES[role]) is not None

    def public_key(self, role: KeyRole) -> ec.EllipticCurvePublicKey:
        point = self._points.get(role)
        if point is None:
            public = self._find(_HANDLES[role]) or self._make(_HANDLES[role], _TEMPLATES[role])
            _require(public, _NEEDED[role], role.value)
            if public.point is None:
                raise TpmError(f"cannot use the TPM's {role.value} key: it is not of P-256")
            point = self._points[role] = public.point
        return ec.EllipticCurvePublicNumbers(point.x, point.y, ec.SECP256R1()).public_key()

    def sign(self, role: KeyRole, digest: bytes) -> bytes:
        self.public_key(role)
        r, s = commands.read_sign_answer(self._line.run(commands.sign(_HANDLES[role], digest)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def agree(self, peer: ec.EllipticCurvePublicKey) -> tuple[int, int]:
        self.public_key(KeyRole.EXCHANGE)
        numbers = peer.public_numbers()
        command = commands.agree(_HANDLES[KeyRole.EXCHANGE], Point(numbers.x, numbers.y))
        shared = commands.read_agree_answer(self._line.run(command))
        return shared.x, shared.y

    def _find(self, handle: int) -> Public | None:
        try:
            return commands.read_public_answer(self._line.run(commands.public_of(handle)))
        except TpmError as error:
            if error.code == HANDLE:
                return None
            raise

    def _make(self, handle: int, template: bytes) -> Public:
        what = "make a key"
        answer = self._line.run(commands.create_primary(what, template, self._owner))
        public = read_public(answer.parameters.sized())
        with self._freed(answer.handle):
            self._line.run(commands.keep(answer.handle, handle, self._owner))
        return public

    def _storage(self) -> int:
        public = self._find(_STORAGE_HANDLE) or self._make(_STORAGE_HANDLE, STORAGE_KEY)
        _require(public, Attributes.DECRYPT | Attributes.RESTRICTED, "storage")
        return _STORAGE_HANDLE

    # -- registers --

    def has_bank(self) -> bool:
        """Whether there are registers of SHA-256."""
        banks = commands.read_banks_answer(self._line.run(commands.get_banks()))
        return bool(banks.get(SHA256))

    def registers(self, numbers: Iterable[int]) -> dict[int, bytes]:
        wanted = set(numbers)
        found: dict[int, bytes] = {}
        while wanted - found.keys():
            answer = self._line.run(commands.read_registers(wanted - found.keys()))
            told = commands.read_registers_answer(answer)
            if not told:
                raise TpmError("cannot read registers with the TPM: it has no SHA-256 bank")
            found.update(told)
        return {number: found[number] for number in sorted(found)}

    def extend(self, register: int, digest: bytes) -> None:
        if len(digest) != DIGEST_SIZE:
            raise TpmError("cannot extend a register with the TPM: this is no SHA-256 digest")
        self._line.run(commands.extend(register, digest))

    def quote(self, nonce: bytes, registers: Iterable[int]) -> Signed:
        chosen = frozenset(registers)
        self.public_key(KeyRole.QUOTE)
        for _ in range(_QUOTE_TRIES):
            answer = self._line.run(commands.quote(_HANDLES[KeyRole.QUOTE], nonce, chosen))
            attest, (r, s) = commands.read_quote_answer(answer)
            values = self.registers(chosen)
            if read_quote(attest).digest == digest_of(values):
                return Signed(attest, encode_dss_signature(r, s), values)
        raise TpmError("cannot quote with the TPM: its registers change all the time", PCR_CHANGED)

    # -- sealing --

    def seal(self, secret: bytes, values: Mapping[int, bytes]) -> Sealed:
        template = sealed_object(register_policy(values))
        answer = self._line.run(commands.create_sealed(self._storage(), template, secret))
        private, public = commands.read_create_answer(answer)
        return Sealed(private, public, dict(values))

    def unseal(self, sealed: Sealed) -> bytes:
        parent = self._storage()
        loaded = self._line.run(commands.load(parent, sealed.private, sealed.public)).handle
        with self._freed(loaded), self._policy(sealed.values) as session:
            return commands.read_unseal_answer(self._line.run(commands.unseal(loaded, session)))

    @contextlib.contextmanager
    def _policy(self, registers: Iterable[int]) -> Iterator[int]:
        session = self._line.run(commands.start_policy(os.urandom(16))).handle
        try:
            self._line.run(commands.require_registers(session, registers))
            yield session
        finally:
            with contextlib.suppress(TpmError):  # a session that was used up is gone
                self._line.run(commands.flush(session))

    @contextlib.contextmanager
    def _freed(self, handle: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._line.run(commands.flush(handle))

    # -- memory --

    def read_memory(self, index: int) -> bytes:
        size, written = self._memory(index) or (0, False)
        content = b""
        while written and len(content) < min(size, _MEMORY_MAX):
            part = min(_CHUNK, size - len(content))
            answer = self._line.run(commands.read_memory(index, part, len(content), self._owner))
            content += commands.read_memory_answer(answer)
        return content

    def write_memory(self, index: int, content: bytes) -> None:
        """Not atomic: read it back before relying on it."""
        if not 0 < len(content) <= _MEMORY_MAX:
            raise TpmError(f"cannot write memory with the TPM: {len(content)} bytes")
        if self._memory(index) is not None:
            self._line.run(commands.release_memory(index, self._owner))
        self._line.run(commands.define_memory(index, len(content), self._owner))
        for offset in range(0, len(content), _CHUNK):
            part = content[offset : offset + _CHUNK]
            self._line.run(commands.write_memory(index, part, offset, self._owner))

    def _memory(self, index: int) -> tuple[int, bool] | None:
        """Its size, and whether anything was written there; None: it is not reserved."""
        try:
            return commands.read_memory_of_answer(self._line.run(commands.memory_of(index)))
        except TpmError as error:
            if error.code == HANDLE:
                return None
            raise


def _require(public: Public, needed: Attributes, what: str) -> None:
    """Somebody with the owner's right may have put another key there, even one that they know."""
    if public.attributes & (BORN_HERE | needed) != BORN_HERE | needed:
        raise TpmError(f"cannot use the TPM's {what} key: it was not made in this TPM for that use")


def open_tpm(path: Path, owner_password: bytes = b"") -> Tpm | None:
    """None: the machine has no TPM 2.0 with a SHA-256 bank of registers. Raises TpmError when
    there is one that does not work.
    """
    if not path.exists():
        return None
    tpm = Tpm(Line(path), owner_password)
    try:
        usable = tpm.has_bank()
    except TpmError:
        tpm.close()
        raise
    if not usable:
        tpm.close()
        return None
    return tpm
