"""Messages that wait to be delivered: one for each object, the newest state wins. No I/O."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgevirt.node.agent.outcome import Delivery, delivery, retry_delay

Compose = Callable[[], bytes]
"""Makes the message at the moment it is sent."""


class _Item(msgspec.Struct):
    compose: Compose
    turn: int
    attempts: int = 0
    due: float = 0.0


class Outbox:
    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._turns = 0

    def put(self, key: str, compose: Compose) -> None:
        """Replaces what waited for the same object; a refused one is tried at once again."""
        self._turns += 1
        before = self._items.pop(key, None)
        attempts = before.attempts if before else 0
        self._items[key] = _Item(compose, self._turns, attempts)

    def next(self, now: float) -> tuple[str, int, bytes] | None:
        """(key, turn, message) of the first one that is due."""
        for key, item in self._items.items():
            if item.due <= now:
                return key, item.turn, item.compose()
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None when nothing waits."""
        if not self._items:
            return None
        return max(0.0, min(item.due for item in self._items.values()) - now)

    def answered(self, key: str, turn: int, status: int, now: float) -> Delivery:
        """What the controller said (0: nothing) of the message with that turn."""
        outcome = delivery(status)
        item = self._items.get(key)
        if item is None or item.turn != turn:
            return outcome  # a newer state waits already
        if outcome is Delivery.LATER:
            item.attempts += 1
            item.due = now + retry_delay(item.attempts)
        else:
            del self._items[key]
        return outcome

    def unreachable(self, now: float, seconds: float) -> None:
        """No answer at all: nothing is sent for a while."""
        for item in self._items.values():
            item.due = max(item.due, now + seconds)

    def reachable(self) -> None:
        """The controller answers again: what only waited for that is due."""
        for item in self._items.values():
            if not item.attempts:
                item.due = 0.0

    def __len__(self) -> int:
        return len(self._items)
