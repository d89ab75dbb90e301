"""Opens the vault, or says why it stays closed. Blocking; knows no store and no time.

The key comes from the TPM while the machine's registers are those of before; else from the
controller, which keeps a copy that only this TPM can read, and gives it to a node that it believes.
A vault that held anything is never replaced (docs/decisions/0020).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from edgevirt.host.tpm.failures import TpmError, TpmMismatch
from edgevirt.host.tpm.protocol import Sealed, SecurityModule
from edgevirt.host.vault import KEY_SIZE, Lock, Unsupported, Vault, VaultError
from edgevirt.model.trust import ControllerVaultKey, UnlockMethod, VaultState
from edgevirt.node.trust.keys import Agree
from edgevirt.node.trust.sealed_keys import SealedKeys
from edgevirt.wire import certificates, escrow
from edgevirt.wire.cipher import BlockKey, CipherError
from edgevirt.wire.escrow import EscrowError

_log = logging.getLogger(__name__)

SEALING: Final = (*range(5), *range(6, 10), *range(11, 15))
"""Registers that the key is sealed to. Not 5, the partition table, which a first boot changes; and
not 10, where the kernel puts a digest of 0 to 9, 5 among them."""


class Outcome(msgspec.Struct, frozen=True):
    """`again`: the module or the disk failed; a later try may go better."""

    state: VaultState
    method: UnlockMethod = UnlockMethod.NONE
    sealed: bool = False
    mismatching: tuple[int, ...] = ()
    why: str = ""
    again: bool = False

    @property
    def closed(self) -> bool:
        return self.state in (VaultState.CLOSED, VaultState.ERROR)


class Keeper:
    """`module`: None when the machine's TPM holds no keys of the node's."""

    def __init__(
        self,
        vault: Vault,
        keys: SealedKeys,
        module: SecurityModule | None,
        agree: Agree,
        device_cert: bytes,
    ) -> None:
        self._vault = vault
        self._keys = keys
        self._module = module
        self._agree = agree
        self._device_cert = device_cert
        self._secret = b""
        self.outcome = Outcome(VaultState.OPENING)

    # -- what is asked of it --

    def open(self) -> Outcome:
        """At the start, and again after a failure."""
        return self._told(self._open)

    def hear(self, word: ControllerVaultKey) -> Outcome:
        """What the controller said, after an attestation that it accepted."""
        if self.outcome.closed:
            return self._told(lambda: self._open_with(word))
        if self._secret and hashlib.sha256(self.escrow()).digest() == word.escrowed:
            self._keys.mark_used()
        return self.outcome

    def settle(self) -> None:
        """The running software is the one to stay: what booted before does not open it any more."""
        copies = self._keys.load()
        if self.outcome.state is VaultState.OPEN and len(copies) > 1:
            self._keys.save(copies[:1])
            _log.info("the vault's key is sealed to the running software alone")

    def escrow(self) -> bytes:
        """For the controller to keep; empty: the key is not known, or there is none."""
        if not self._secret or self._module is None:
            return b""
        return escrow.wrap(self._wrapping_key(), self._secret)

    # -- how --

    def _told(self, attempt: Callable[[], Outcome]) -> Outcome:
        before = self.outcome
        try:
            self.outcome = attempt()
        except (TpmError, VaultError, CipherError, OSError) as error:
            self.outcome = replace(before, state=VaultState.ERROR, why=str(error), again=True)
        if self.outcome != before:
            _log.info("vault: %s %s", self.outcome.state.value, self.outcome.why)
        return self.outcome

    def _open(self) -> Outcome:
        if self._vault.state() is Lock.PLAIN:
            return self._open_plain()
        if self._module is None:
            return Outcome(
                VaultState.ERROR,
                why="cannot open the vault: the TPM that has its key is not in use; "
                "see to it in the firmware's setup",
            )
        return self._open_sealed(self._module)

    def _open_plain(self) -> Outcome:
        if self._module is None:
            return Outcome(VaultState.DISABLED, UnlockMethod.NO_MODULE)
        if not self._vault.is_empty():
            why = "cannot encrypt the vault: it holds data from a time without a TPM"
            return Outcome(VaultState.DISABLED, UnlockMethod.NO_MODULE, why=why)
        return self._make(self._module, UnlockMethod.SEALED)

    def _make(self, module: SecurityModule, method: UnlockMethod) -> Outcome:
        """The sealed key is on the disk before anything is encrypted with it."""
        secret = os.urandom(KEY_SIZE)
        self._keys.save((module.seal(secret, module.registers(SEALING)),))
        self._keys.mark_new()
        try:
            self._vault.encrypt(secret)
        except Unsupported as error:
            return Outcome(VaultState.DISABLED, UnlockMethod.NO_MODULE, why=str(error))
        self._secret = secret
        return Outcome(VaultState.OPEN, method, sealed=True)

    def _open_sealed(self, module: SecurityModule) -> Outcome:
        present = module.registers(SEALING)
        copies = self._keys.load()
        for copy in copies:
            if differing(copy, present):
                continue
            try:
                secret = module.unseal(copy)
            except TpmMismatch as error:
                _log.warning("%s", error)
                continue
            if self._vault.unlock(secret):
                if copy is not copies[0]:  # an update was taken back: this one is the newest again
                    self._keys.save((copy, *(other for other in copies if other is not copy)))
                self._opened(secret)
                return Outcome(VaultState.OPEN, UnlockMethod.SEALED, sealed=True)
            _log.error("a sealed key is not that of the vault")
        return self._wait_for_controller(copies, present)

    def _wait_for_controller(
        self, copies: tuple[Sealed, ...], present: Mapping[int, bytes]
    ) -> Outcome:
        if self._vault.state() is Lock.OPEN:  # an earlier run of this service opened it
            return Outcome(VaultState.OPEN, UnlockMethod.SEALED, sealed=bool(copies))
        mismatching = differing(copies[0], present) if copies else ()
        if mismatching:
            numbers = ", ".join(map(str, mismatching))
            why = f"registers {numbers} are not those that its key was sealed to"
        else:
            why = "its sealed key is missing or damaged"
        return Outcome(
            VaultState.CLOSED,
            sealed=bool(copies),
            mismatching=mismatching,
            why=f"cannot open the vault: {why}; the controller is asked for its copy",
        )

    def _open_with(self, word: ControllerVaultKey) -> Outcome:
        if self._module is None or self._vault.state() is Lock.PLAIN:
            return self._open()
        trouble = "the controller keeps no copy of its key"
        for blob in word.blobs:
            try:
                secret = escrow.unwrap(self._wrapping_key(), blob)
                if self._vault.unlock(secret):
                    return self._reseal(self._module, secret)
                trouble = "the controller's copy is of another key"
            except (EscrowError, VaultError) as error:
                trouble = str(error)
        if not word.blobs and self._keys.is_new and not self._vault.was_used():
            self._vault.set_aside()
            return self._make(self._module, UnlockMethod.RECREATED)
        return replace(
            self.outcome, state=VaultState.ERROR, why=f"cannot open the vault: {trouble}"
        )

    def _reseal(self, module: SecurityModule, secret: bytes) -> Outcome:
        """It is open, whatever comes of sealing the key anew."""
        self._opened(secret)
        copies = self._keys.load()
        opened = Outcome(VaultState.OPEN, UnlockMethod.CONTROLLER, sealed=True)
        try:
            fresh = module.seal(secret, module.registers(SEALING))
            self._keys.save((fresh, *copies))
        except (TpmError, OSError) as error:
            return replace(opened, sealed=False, why=f"cannot seal the vault's key anew: {error}")
        return opened

    def _opened(self, secret: bytes) -> None:
        self._secret = secret
        if self._vault.was_used():
            self._keys.mark_used()

    def _wrapping_key(self) -> BlockKey:
        public = certificates.load_pem(self._device_cert).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)  # our own certificate
        return self._agree(public)


def differing(sealed: Sealed, present: Mapping[int, bytes]) -> tuple[int, ...]:
    """Registers that hold something else than when it was sealed."""
    return tuple(number for number in SEALING if sealed.values.get(number) != present.get(number))
