"""What an answer of the controller means, as tables. No I/O.

The status codes and what a node does about each: EVE API v2 (APIv2.md).
"""

from __future__ import annotations

import enum

from edgevirt.model.node import Fault


class Failure(Exception):
    """«cannot X: why». `status`: HTTP's, 0 when there was no answer or it could not be believed."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Unverified(Failure):
    """The answer's envelope is not the controller's. `stale`: our copy of its certificates may be
    too old to tell.
    """

    def __init__(self, why: str, *, stale: bool) -> None:
        super().__init__(why)
        self.stale = stale


class Untrusted(Failure):
    """The controller's certificates do not lead to the node's root."""


def fault_of(failure: Failure) -> Fault:
    if isinstance(failure, Untrusted):
        return Fault.CERTIFICATES
    if isinstance(failure, Unverified):
        return Fault.SIGNATURE
    if not failure.status or failure.status >= 500:
        return Fault.UNREACHABLE
    return _FAULTS.get(failure.status, Fault.REFUSED)


_FAULTS = {
    400: Fault.UNKNOWN,
    403: Fault.UNKNOWN,
    404: Fault.UNKNOWN,
    409: Fault.CONFLICT,
}

ACCEPTED = frozenset({200, 201, 204, 304})

REASONS = {
    400: "the controller does not know this node, or could not read the request",
    401: "the controller does not accept this node's signature",
    403: "the controller forbids it",
    404: "the controller does not know this node",
    409: "the serial is taken by another node",
    413: "the message is too large for the controller",
    422: "the controller could not read the message",
    429: "the controller asks to slow down",
    503: "the controller is not available now",
}


def in_words(status: int) -> str:
    return f"{REASONS.get(status, 'the controller answered')} ({status})"


class Delivery(enum.Enum):
    """What becomes of a queued message."""

    DONE = "done"
    DROP = "drop"
    LATER = "later"


RETRIED = frozenset({401, 403, 407, 408, 429})


def delivery(status: int) -> Delivery:
    """For info: what can't ever be accepted is dropped, the rest is kept until it is."""
    if status in ACCEPTED:
        return Delivery.DONE
    if 400 <= status < 500 and status not in RETRIED:
        return Delivery.DROP
    return Delivery.LATER


RETRY_MINUTES = (1, 2, 4, 8, 15)


def retry_delay(attempts: int) -> float:
    """Seconds until the next try of a refused message: 1, 2, 4, 8, then 15 minutes for ever."""
    return 60.0 * RETRY_MINUTES[min(attempts, len(RETRY_MINUTES)) - 1]


def onboarding_delay(attempts: int) -> float:
    """Seconds: 1 doubling to 600."""
    return float(min(2 ** min(attempts - 1, 10), 600))
