"""A controller's copy of the kinds that it reads, kept up by watching."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from edgevirt.runtime.resource import Gone, InStep, Kind, Put
from edgevirt.runtime.store import Store

Changed = Callable[[Kind[Any], str], None]
"""Told of each kind and key that changed; with the key "" when a kind came in step."""


class Replica:
    """Tables of values by kind name. Nothing may be decided before `whole`."""

    def __init__(self, store: Store, kinds: Iterable[Kind[Any]]) -> None:
        self._store = store
        self._kinds = tuple(kinds)
        self.tables: dict[str, dict[str, Any]] = {kind.name: {} for kind in self._kinds}
        self._missing = {kind.name for kind in self._kinds}

    @property
    def kinds(self) -> tuple[Kind[Any], ...]:
        return self._kinds

    @property
    def whole(self) -> bool:
        """Every kind has been in step once. After a lost connection the driver keeps the values
        that it had until it is in step again, so this never turns false."""
        return not self._missing

    @property
    def missing(self) -> list[str]:
        return sorted(self._missing)

    async def follow(self, kind: Kind[Any], changed: Changed) -> None:
        """Never returns by itself."""
        table = self.tables[kind.name]
        async for event in self._store.watch(kind):
            if isinstance(event, InStep):
                if kind.name in self._missing:
                    self._missing.discard(kind.name)
                    changed(kind, "")
                continue
            key = event.resource.key
            if isinstance(event, Put):
                table[key] = event.resource.value
            elif isinstance(event, Gone):
                table.pop(key, None)
            changed(kind, key)
