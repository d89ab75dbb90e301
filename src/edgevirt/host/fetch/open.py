"""Which adapter serves which kind of datastore."""

from __future__ import annotations

from edgevirt.host.fetch.http import HttpSource
from edgevirt.host.fetch.registry import RegistrySource
from edgevirt.host.fetch.source import Access, CannotFetch, Source, Timeouts
from edgevirt.model.content import DatastoreType

_ADAPTERS: dict[DatastoreType, type[HttpSource] | type[RegistrySource]] = {
    DatastoreType.HTTP: HttpSource,
    DatastoreType.HTTPS: HttpSource,
    DatastoreType.CONTAINER_REGISTRY: RegistrySource,
}


def open_source(access: Access, timeouts: Timeouts) -> Source:
    """Connects to nothing yet. Raises CannotFetch for a datastore that can't be used."""
    adapter = _ADAPTERS.get(access.datastore.type)
    if adapter is None:
        name = access.datastore.type.name
        raise CannotFetch(f"cannot fetch from a datastore of type {name}: not supported")
    return adapter(access, timeouts)
