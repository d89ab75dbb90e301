"""What can go wrong with a TPM, in words (TPM 2.0 part 2, 6.6: response codes)."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0
INITIALIZE: Final = 0x100
FAILURE: Final = 0x101
PCR_CHANGED: Final = 0x128
NV_SPACE: Final = 0x14B
NV_DEFINED: Final = 0x14C
RETRIES: Final = frozenset({0x908, 0x90A, 0x920, 0x922})
"""YIELDED, TESTING, NV_RATE, RETRY: the command is to be sent again, a moment later."""
LOCKOUT: Final = 0x921

_FORMAT_ONE: Final = 0x80
HANDLE: Final = 0x08B
POLICY_FAIL: Final = 0x09D
_VALUE: Final = 0x084
_BAD_AUTH: Final = frozenset({0x08E, 0x0A2})

_WORDS: Final = {
    INITIALIZE: "it was not started by the firmware",
    FAILURE: "it is in failure mode; only a power cycle helps",
    PCR_CHANGED: "a register was extended meanwhile",
    NV_SPACE: "it has no room left; clear it in the firmware's setup",
    NV_DEFINED: "its index is taken already",
    LOCKOUT: "it is locked after too many failed authorizations; it opens again by itself",
    HANDLE: "it does not hold that",
    POLICY_FAIL: "its registers are not those that it was sealed to",
    _VALUE: "it refuses the value",
}


class TpmError(Exception):
    """«cannot X with the TPM: why». `code`: the response code without handle and parameter
    numbers; 0 when there was no answer.
    """

    def __init__(self, why: str, code: int = 0) -> None:
        super().__init__(why)
        self.code = code


class TpmMissing(TpmError):
    """The machine has none, or it does not answer."""


class TpmMismatch(TpmError):
    """Its registers are not those that a secret was sealed to."""


def plain(code: int) -> int:
    """A response code without the number of the handle, session or parameter that it is about."""
    return code & 0x0BF if code & _FORMAT_ONE else code


def failure(what: str, code: int) -> TpmError:
    kind = plain(code)
    if kind in _BAD_AUTH:
        words = "its owner has set a password that the node does not know"
    else:
        words = _WORDS.get(kind, f"it answered {code:#x}")
    wrong = TpmMismatch if kind in (POLICY_FAIL, PCR_CHANGED) else TpmError
    return wrong(f"cannot {what} with the TPM: {words}", kind)
