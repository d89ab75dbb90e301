"""When a domain that failed may start again. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from edgevirt.model.base import SwState, Trouble, severity_of
from edgevirt.model.domain import DomainStatus

FIRST_DELAY = 1.0
"""Seconds; doubles with each failure in a row."""
_ALL = 32
"""Doublings that exceed any cap."""


class Restarts(msgspec.Struct, frozen=True):
    """The failures of one domain since its app was last changed."""

    generation: int
    crashes: int = 0
    in_a_row: int = 0
    why: str = ""
    since: float = 0.0
    """Wall clock of the first in a row."""
    not_before: float = 0.0
    """Monotonic: no start until then."""
    retry_at: float = 0.0
    """The same in wall clock, for people."""
    ended: bool = False
    """The last failure was an end by itself, not a start that failed."""

    @classmethod
    def resumed(cls, told: DomainStatus, *, now: float, monotonic: float) -> Restarts:
        """From what was told of it before the service restarted."""
        history = cls(told.generation, crashes=told.crashes)
        trouble = told.trouble
        if trouble is not None and told.state == SwState.RUNNING:
            return replace(
                history,
                in_a_row=trouble.attempts,
                why=trouble.why,
                since=trouble.since,
                ended=True,
            )
        if trouble is None or trouble.retry_at is None:
            return history
        return replace(
            history,
            in_a_row=trouble.attempts,
            why=trouble.why,
            since=trouble.since,
            not_before=monotonic + max(0.0, trouble.retry_at - now),
            retry_at=trouble.retry_at,
        )

    def crashed(
        self,
        why: str,
        *,
        ran: float,
        cap: float,
        now: float,
        monotonic: float,
        patient: bool = False,
    ) -> Restarts:
        """It ended by itself after `ran` seconds. The first time it may start again at once.

        A run longer than the longest delay `cap` makes up for all failures before it. `patient`:
        each time that delay is waited for, as EVE does with a virtual machine.
        """
        before = replace(self, in_a_row=0) if ran >= cap else self
        doublings = _ALL if patient else before.in_a_row - 1
        failed = before._failed(why, doublings, cap=cap, now=now, monotonic=monotonic)
        return replace(failed, crashes=self.crashes + 1, ended=True)

    def not_started(self, why: str, *, cap: float, now: float, monotonic: float) -> Restarts:
        failed = self._failed(why, self.in_a_row, cap=cap, now=now, monotonic=monotonic)
        return replace(failed, ended=False)

    def remark(self, now: float, *, ran: float, cap: float) -> Trouble | None:
        """What to say of it while it runs again: why it ended, until a long run makes up for it."""
        if not self.ended or ran >= cap:
            return None
        return Trouble(
            why=self.why,
            since=self.since,
            severity=severity_of(self.in_a_row, now - self.since),
            attempts=self.in_a_row,
        )

    def trouble(self, now: float) -> Trouble | None:
        """What to say of it while it waits for its next start."""
        if not self.in_a_row:
            return None
        return Trouble(
            why=self.why,
            since=self.since,
            severity=severity_of(self.in_a_row, now - self.since),
            attempts=self.in_a_row,
            retry_at=self.retry_at,
        )

    def _failed(
        self, why: str, doublings: int, *, cap: float, now: float, monotonic: float
    ) -> Restarts:
        """`doublings` below 0: no delay."""
        delay = 0.0 if doublings < 0 else min(cap, FIRST_DELAY * 2.0 ** min(doublings, _ALL))
        return replace(
            self,
            in_a_row=self.in_a_row + 1,
            why=why,
            since=self.since if self.in_a_row else now,
            not_before=monotonic + delay,
            retry_at=now + delay,
        )
