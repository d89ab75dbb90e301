"""Open datastores: made when first asked for, and anew when what they are changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgevirt.host.fetch import Access, CannotFetch, Source, Timeouts, open_source
from edgevirt.model.ids import DatastoreId
from edgevirt.model.kinds import CREDENTIALS, DATASTORE
from edgevirt.node.properties import flag, number
from edgevirt.runtime import Inputs

READS = (DATASTORE, CREDENTIALS)


class _Open:
    def __init__(self, access: Access, timeouts: Timeouts) -> None:
        self.access = access
        self.timeouts = timeouts
        self.source = open_source(access, timeouts)
        self.users = 0


class Sources:
    """Keeps connections and tokens of a datastore from one blob to the next."""

    def __init__(self) -> None:
        self._open: dict[DatastoreId, _Open] = {}

    @asynccontextmanager
    async def use(self, datastore: DatastoreId, inputs: Inputs) -> AsyncIterator[Source]:
        """Raises CannotFetch while the datastore can't be used."""
        access = _access(datastore, inputs)
        timeouts = Timeouts(stalled=number(inputs, "timer.download.stalled"))
        opened = self._open.get(datastore)
        if opened is None or (opened.access, opened.timeouts) != (access, timeouts):
            old, opened = opened, _Open(access, timeouts)
            self._open[datastore] = opened
            if old is not None and old.users == 0:
                await old.source.close()
        opened.users += 1
        try:
            yield opened.source
        finally:
            opened.users -= 1
            if opened.users == 0 and self._open.get(datastore) is not opened:
                await opened.source.close()

    async def close(self) -> None:
        for opened in self._open.values():
            await opened.source.close()
        self._open.clear()


def _access(datastore: DatastoreId, inputs: Inputs) -> Access:
    found = inputs.get(DATASTORE, datastore)
    if found is None:
        raise CannotFetch(f"cannot fetch from datastore {datastore}: it is not configured")
    insecure = flag(inputs, "datastore.http.security.allowinsecureauth")
    if found.cipher is None:
        return Access(found, found.api_key, found.password, insecure)
    secret = inputs.get(CREDENTIALS, datastore)
    if secret is None:
        raise CannotFetch(
            f"cannot fetch from datastore {datastore}: its credentials are not decrypted yet"
        )
    return Access(found, secret.user, secret.password, insecure)
