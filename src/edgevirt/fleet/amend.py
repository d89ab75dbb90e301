"""Read, decide, write: for values that others write too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from edgevirt.runtime import ABSENT, Conflict, Kind, Resource, Store

T = TypeVar("T")

_ATTEMPTS: Final = 20


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
