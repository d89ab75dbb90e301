"""The order of an attestation, as a table. Pure: decides what is next, does nothing.

By EVE's states (`AttestationState`), with the certificates in front: what the controller is to
check with has to be there first.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Step(enum.Enum):
    """What is to be done, or waited for."""

    CERTIFICATES = "certificates"
    NONCE = "nonce"
    QUOTE = "quote"
    """Our own module signs."""
    ATTEST = "attest"
    OWN_KEY = "own key"
    """The vault's key is not known yet; the token is, so all else goes on."""
    ESCROW = "escrow"
    COMPLETE = "complete"
    RESTART = "restart"
    """A pause; then all over again."""


class Event(enum.Enum):
    DONE = "done"
    FAILED = "failed"
    ASKED = "asked"
    """The controller wants it again: 403 on a config."""
    NEWS = "news"
    """Something in `Known` changed."""


class Known(msgspec.Struct, frozen=True):
    """`module`: quotes can be had. `key`: there is a copy of the vault's key that the controller
    has not confirmed. `vault_waits`: the vault is closed, so the key may come yet.
    """

    module: bool = False
    key: bool = False
    vault_waits: bool = False


BELIEVED: Final = frozenset({Step.OWN_KEY, Step.ESCROW, Step.COMPLETE})
"""In these the controller has given a token."""
RESTING: Final = frozenset({Step.OWN_KEY, Step.COMPLETE})
"""Nothing is to be done in these until something happens."""

_NEXT: Final = {
    Step.CERTIFICATES: Step.NONCE,
    Step.QUOTE: Step.ATTEST,
    Step.RESTART: Step.CERTIFICATES,
}


def after(step: Step, event: Event, known: Known) -> Step:
    if event is Event.FAILED:
        return Step.RESTART
    if event is Event.ASKED:
        return Step.CERTIFICATES if step in BELIEVED else step
    if event is Event.NEWS:
        return _believed(known) if step in RESTING else step
    if step is Step.NONCE:
        return Step.QUOTE if known.module else Step.ATTEST
    if step in (Step.ATTEST, Step.ESCROW):
        return _believed(known)
    return _NEXT.get(step, step)


def _believed(known: Known) -> Step:
    if known.key:
        return Step.ESCROW
    return Step.OWN_KEY if known.vault_waits else Step.COMPLETE
