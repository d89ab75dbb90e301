"""The table of sessions: who may have which console, until when, and why it ends. Pure.

Nothing here is kept on disk: a session lives as long as the connection of the one who wants it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from edgevirt.model.access import ConsoleGrant, ConsoleKind
from edgevirt.model.ids import AppId
from edgevirt.wire.access import MAX_SESSIONS, session_token

WHOLE_SECONDS: Final = 3_600.0
"""How long a session may last at all."""
IDLE_SECONDS: Final = 900.0
"""In which nothing was typed and nothing printed."""
WAIT_SECONDS: Final = 180.0
"""For the node to ask for its config; at least two of its intervals."""
DIAL_SECONDS: Final = 60.0
"""For the node to connect once it has its config."""
MOST: Final = 500
"""Sessions of one fleet at a time."""
_MARGIN: Final = 60.0
"""By which the node's end is later: clocks differ, and ours ends it in time."""


class Busy(Exception):
    """«cannot open X: why»: somebody else has it, or there are too many."""


@dataclass
class Session:
    """`node`, `instance`: keys in the store. `user`: who has it. Times: wall clock.

    `asked`: when the node took the config that grants it; `paired`: when it had connected.
    `touched`: when something last went through. 0: not yet.
    """

    id: str
    key: bytes
    app: AppId
    kind: ConsoleKind
    node: str
    instance: str
    user: str
    began: float
    interval: float = 60.0
    asked: float = 0.0
    paired: float = 0.0
    touched: float = 0.0
    ended: str = ""
    """Why somebody else wants it to end."""

    @property
    def end(self) -> float:
        return self.began + WHOLE_SECONDS

    @property
    def grant(self) -> ConsoleGrant:
        return ConsoleGrant(
            id=self.id, app=self.app, kind=self.kind, key=self.key, end=self.end + _MARGIN
        )

    def deadline(self) -> tuple[float, str]:
        """When it ends if nothing else happens, and why it does then."""
        node = self.node.rpartition("/")[2]
        if self.paired:
            idle = max(self.paired, self.touched) + IDLE_SECONDS
            if idle < self.end:
                minutes = f"{IDLE_SECONDS / 60:.0f} min"
                return idle, f"the session is over: nothing was typed or printed for {minutes}"
            return self.end, f"the session is over: it may last {WHOLE_SECONDS / 60:.0f} min"
        if self.asked:
            why = (
                f"{node} has its config and does not connect: consoles are served by edgevirt's "
                f"own nodes, and the way is that of the nodes' API"
            )
            return self.asked + DIAL_SECONDS, why
        patience = max(WAIT_SECONDS, 2 * self.interval)
        return self.began + patience, f"{node} has not asked for its config in {patience:.0f} s"


@dataclass
class Sessions:
    """At most one for each console of an app, and MAX_SESSIONS for each node."""

    _by_id: dict[str, Session] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def holder(self, app: AppId, kind: ConsoleKind) -> Session | None:
        return next((one for one in self if (one.app, one.kind) == (app, kind)), None)

    def open(self, session: Session, *, take_over: bool = False) -> Session | None:
        """Takes it in; returns the one that has to go for it. Raises Busy."""
        before = self.holder(session.app, session.kind)
        name = session.instance.rpartition("/")[2]
        if before is not None and not take_over:
            raise Busy(
                f"cannot open the {session.kind} console of {name}: {before.user} has it open"
            )
        if before is not None:
            del self._by_id[before.id]
            before.ended = f"the session is over: {session.user} took the console over"
        if len(self.grants_of(session.node)) >= MAX_SESSIONS:
            node = session.node.rpartition("/")[2]
            raise Busy(f"cannot open a console of {name}: {node} has {MAX_SESSIONS} open already")
        if len(self._by_id) >= MOST:
            raise Busy(f"cannot open a console of {name}: {MOST} are open already")
        self._by_id[session.id] = session
        return before

    def close(self, session: Session) -> None:
        """Idempotent."""
        self._by_id.pop(session.id, None)

    def find(self, token: str) -> Session | None:
        """By what a node shows. One that is paired is not there for another connection."""
        for session in self:
            known = session_token(session.grant)
            if not session.paired and hmac.compare_digest(known.encode(), token.encode()):
                return session
        return None

    def grants_of(self, node: str) -> tuple[ConsoleGrant, ...]:
        return tuple(session.grant for session in self if session.node == node)

    def note_asked(self, node: str, now: float) -> list[Session]:
        """The node takes its config; the sessions of which it is news."""
        news = [session for session in self if session.node == node and not session.asked]
        for session in news:
            session.asked = now
        return news
