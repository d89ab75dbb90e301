"""What a datastore must do, whatever its kind: say what a tag stands for, and stream a blob."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from edgevirt.model.content import Datastore
from edgevirt.model.ids import Digest


class CannotFetch(Exception):
    """«cannot fetch X: why». Another datastore, or the same one later, may do better."""


class NotThere(CannotFetch):
    """The datastore answers, and has nothing by that name."""


class BeyondEnd(CannotFetch):
    """The blob has no byte at the offset asked for: what was fetched before is not of it."""


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `stalled`: so long without a byte ends a transfer."""

    connect: float = 10.0
    stalled: float = 600.0


class Access(msgspec.Struct, frozen=True):
    """A datastore and how to enter it. Holds a secret: never logged (see `__repr__`)."""

    datastore: Datastore
    user: str = ""
    password: str = ""
    insecure_auth: bool = False
    """Credentials of an HTTP datastore may go in clear."""

    def __repr__(self) -> str:
        return f"Access({self.datastore.id!r})"


class Wanted(msgspec.Struct, frozen=True):
    """A blob. `url` as in ContentTree, relative to the datastore."""

    url: str
    digest: Digest
    is_manifest: bool = False


class Transfer(msgspec.Struct, frozen=True):
    """A blob on its way. `offset`: of its first byte, at most the one asked for (a server may
    start over). `size`: of the whole blob; None when the server doesn't say.
    """

    offset: int
    size: int | None
    media_type: str
    chunks: AsyncIterator[bytes]
    """Raises CannotFetch when the transfer breaks or stalls; ends early where a server does."""


class Source(Protocol):
    async def resolve(self, url: str) -> Digest:
        """The digest that a tag stands for now. Raises CannotFetch."""
        ...

    def open(self, wanted: Wanted, offset: int) -> AbstractAsyncContextManager[Transfer]:
        """The blob from byte `offset` on. Raises CannotFetch, BeyondEnd when there is none.

        Doesn't check the content.
        """
        ...

    async def close(self) -> None: ...
