"""Trouble that lasts: each further failure keeps the first one's time and grows more severe."""

from __future__ import annotations

from edgevirt.model.base import Trouble, severity_of


def worsen(
    before: Trouble | None,
    why: object,
    now: float,
    retry_in: float | None = None,
    hint: str = "",
) -> Trouble:
    """The trouble after one more failure. `retry_in`: seconds; None: not tried again."""
    since = before.since if before is not None else now
    attempts = before.attempts + 1 if before is not None else 1
    return Trouble(
        why=str(why),
        since=since,
        severity=severity_of(attempts, now - since),
        attempts=attempts,
        retry_at=None if retry_in is None else now + retry_in,
        hint=hint,
    )
