"""What every noun is made of, and the ways in which a thing can be in trouble."""

from __future__ import annotations

import enum

import msgspec


class Noun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frozen value. Evolves by adding fields with defaults; unknown fields are skipped."""


class Severity(enum.IntEnum):
    """How bad an error is, by EVE's scale (`ErrorInfo.severity`)."""

    UNSPECIFIED = 0
    NOTICE = 1
    WARNING = 2
    ERROR = 3


class Trouble(Noun, frozen=True, kw_only=True):
    """Why something isn't as it should be, and what happens next."""

    why: str
    """«cannot X: why»."""
    since: float
    """Wall clock of the first failure in a row."""
    severity: Severity = Severity.ERROR
    attempts: int = 1
    retry_at: float | None = None
    """Wall clock of the next try; None: no try until the spec changes."""
    hint: str = ""


def severity_of(attempts: int, seconds: float) -> Severity:
    """EVE's rule: a failure that lasts gets worse (10 tries or 1 h: warning; 20 or 10 h: error)."""
    if attempts >= 20 or seconds >= 36_000:
        return Severity.ERROR
    if attempts >= 10 or seconds >= 3_600:
        return Severity.WARNING
    return Severity.NOTICE


class SwState(enum.IntEnum):
    """States of content trees, volumes and apps, by EVE's names (`SwState`, from 100)."""

    INITIAL = 100
    RESOLVING_TAG = 101
    RESOLVED_TAG = 102
    DOWNLOADING = 103
    DOWNLOADED = 104
    VERIFYING = 105
    VERIFIED = 106
    LOADING = 107
    LOADED = 108
    CREATING_VOLUME = 109
    CREATED_VOLUME = 110
    INSTALLED = 111
    AWAITNETWORKINSTANCE = 112
    START_DELAYED = 113
    BOOTING = 114
    RUNNING = 115
    PAUSING = 116
    PAUSED = 117
    HALTING = 118
    HALTED = 119
    BROKEN = 120
    UNKNOWN = 121
    PENDING = 122
    SCHEDULING = 123
    FAILED = 124
    REMOTELOADED = 125
