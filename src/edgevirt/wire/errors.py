"""What can be wrong with bytes from outside, as values that callers act on."""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """Why bytes were refused."""

    MALFORMED = "malformed"
    TOO_LARGE = "too large"
    UNKNOWN_SENDER = "unknown sender"  # fetch certificates anew, or enrol, then ask again
    BAD_SIGNATURE = "bad signature"
    BAD_ALGORITHM = "bad algorithm"
    BAD_HASH_SIZE = "bad hash size"
    BAD_KEY = "bad key"
    BAD_LIST = "bad list"  # certificates, each fine by itself, that must not come together
    UNTRUSTED = "untrusted"  # no valid chain to a root
    UNKNOWN_CONTEXT = "unknown context"
    BAD_DIGEST = "bad digest"  # decrypted, but not to what was encrypted


class WireError(ValueError):
    """Bytes that cannot be accepted; each module raises its own kind.

    `reason` is for the program, the text for people: «cannot X: why».
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BadDocument(Exception):
    """«cannot use X: why»: what a registry serves is not what can be run here."""
