"""Read, decide, write: for values that others write too, and disks that are full at times."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from edgevirt.runtime.clock import Clock
from edgevirt.runtime.resource import Kind, Resource
from edgevirt.runtime.store import ABSENT, Conflict, Store, StoreError

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)

_ATTEMPTS: Final = 20
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


async def amend(
    store: Store, kind: Kind[T], key: str, edit: Callable[[T | None], T | None]
) -> Resource[T] | None:
    """Puts what `edit` makes of the present value, and makes it again if somebody was faster.

    `edit` returns None to leave it as it is; then so does this when there is nothing. Raises
    Conflict when others keep being faster.
    """
    for attempt in range(_ATTEMPTS):
        present = await store.get(kind, key)
        wanted = edit(present.value if present is not None else None)
        if wanted is None:
            return present
        expect = present.version if present is not None else ABSENT
        try:
            return await store.put(kind, key, wanted, expect=expect)
        except Conflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def insist(clock: Clock, what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Does `work`, which may be done twice, until the store takes it."""
    pause = _FIRST_PAUSE
    while True:
        try:
            await work()
        except StoreError as error:
            _log.warning("%s: %s; again in %.0f s", what, error, pause)
            await clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return
