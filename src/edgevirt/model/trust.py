"""What the node can prove and what it keeps closed: security module, quotes, and the vault."""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun, Trouble


class ModuleState(enum.StrEnum):
    ABSENT = "absent"
    """The machine has none that we can use: keys are in software."""
    WORKING = "working"
    FAILED = "failed"
    """It is there and does not do what it should; the trouble says what."""


class SecurityModule(Noun, frozen=True, kw_only=True):
    """The machine's TPM. Key: `node`. trust → all."""

    state: ModuleState
    manufacturer: str = ""
    firmware: str = ""
    specification: str = ""
    holds_identity: bool = False
    """Whether the device key is in it; a node that was enrolled before keeps its software key."""
    trouble: Trouble | None = None


class QuoteRequest(Noun, frozen=True, kw_only=True):
    """Key: any. agent → trust alone. `nonce`: 12 to 32 bytes of the controller's."""

    nonce: bytes


class Quote(Noun, frozen=True, kw_only=True):
    """Key: as the request's. trust → agent alone.

    attest     TPMS_ATTEST without a size in front; empty when there is no quote, and `why` says so.
    signature  DER, ECDSA with SHA-256 by the key of `Identity.quote_cert`.
    registers  (number, value) of the SHA-256 bank, in order.
    event_log  what was measured into them, in the TCG's binary form, gzip.
    """

    attest: bytes = b""
    signature: bytes = b""
    registers: tuple[tuple[int, bytes], ...] = ()
    event_log: bytes = b""
    why: str = ""


class VaultState(enum.StrEnum):
    UNKNOWN = "unknown"
    DISABLED = "disabled"
    """Not encrypted; `VaultStatus.trouble` says why if that was not to be expected."""
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"
    """Encrypted, and the key is not there yet: it comes with the controller's next word."""
    ERROR = "error"
    """Encrypted, and the key cannot be had as things are."""


class UnlockMethod(enum.StrEnum):
    NONE = ""
    SEALED = "tpm-local-sealed"
    CONTROLLER = "controller-key"
    NO_MODULE = "no-tpm"
    RECREATED = "recreated"


class VaultStatus(Noun, frozen=True, kw_only=True):
    """Key: `vault`. trust → agent, supervisor and whoever wants to know."""

    state: VaultState
    since: float
    method: UnlockMethod = UnlockMethod.NONE
    sealed: bool = False
    """Whether the key is bound to the registers: what booted decides whether it comes out."""
    mismatching: tuple[int, ...] = ()
    """Registers that differ from those that the key was sealed to."""
    trouble: Trouble | None = None

    @property
    def usable(self) -> bool:
        """Whether what lies in the vault can be read and written."""
        return self.state in (VaultState.OPEN, VaultState.DISABLED)


class EscrowKey(Noun, frozen=True, kw_only=True):
    """Key: `vault`. trust → agent alone. For the controller to keep, and unreadable to it.

    `blob`: AttestVolumeKeyData of the wire, encrypted under a key that only this machine's
    security module can derive.
    """

    blob: bytes


class ControllerVaultKey(Noun, frozen=True, kw_only=True):
    """Key: `vault`. agent → trust alone. What the controller said at the last attestation.

    blobs     copies that it keeps; none: it has no key of this node.
    at        wall clock of that word.
    escrowed  SHA-256 of the EscrowKey blob that it confirmed to keep; empty: of none yet.
    """

    blobs: tuple[bytes, ...] = ()
    at: float = 0.0
    escrowed: bytes = b""
