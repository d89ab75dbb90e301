"""The list of port configs with the one in use: what happened to each is noted here. No I/O."""

from __future__ import annotations

from msgspec.structs import replace

from edgevirt.model.ports import (
    PortConfig,
    PortConfigEntry,
    PortConfigList,
    PortConfigState,
    PortSource,
)
from edgevirt.node.ports import listing


class KeptList:
    """`current`: the index of the one that the machine is to be set up by; -1: there is none."""

    def __init__(self, kept: PortConfigList) -> None:
        self.entries = listing.order(kept.entries)
        self.current = -1

    @property
    def entry(self) -> PortConfigEntry | None:
        return self.entries[self.current] if self.current >= 0 else None

    @property
    def config(self) -> PortConfig:
        """Of the one in use; there has to be one."""
        return self.entries[self.current].config

    @property
    def kept(self) -> PortConfigList:
        return PortConfigList(entries=self.entries, current=self.current)

    @property
    def sure(self) -> bool:
        """Whether a config of the controller's ever worked."""
        return any(
            entry.last_succeeded > 0
            for entry in self.entries
            if entry.config.source is PortSource.CONTROLLER
        )

    @property
    def last_resort(self) -> PortConfigEntry | None:
        found = (e for e in self.entries if e.config.source is PortSource.LAST_RESORT)
        return next(found, None)

    def offer(self, config: PortConfig) -> int | None:
        """Where it stands now; None: it was in force already."""
        before = self.entries
        self._replace(listing.offer(self.entries, config))
        if self.entries is before:
            return None
        return next(i for i, e in enumerate(self.entries) if listing.same(e.config, config))

    def prune(self, *, last_resort: bool) -> None:
        """Those that nobody can need any more go. `last_resort`: it stays in any case."""
        keep = last_resort or not self.sure
        self._replace(listing.prune(self.entries, self.entry, last_resort=keep))

    def change(self, old: PortConfigEntry, config: PortConfig) -> None:
        """The same entry, with other ports."""
        new = replace(old, config=config)
        self.entries = tuple(new if entry is old else entry for entry in self.entries)

    def note(self, **changes: object) -> None:
        """Of the one in use."""
        changed = replace(self.entries[self.current], **changes)
        self.entries = tuple(
            changed if index == self.current else entry for index, entry in enumerate(self.entries)
        )

    def note_state(self, state: PortConfigState) -> None:
        if self.entries[self.current].state is not state:
            self.note(state=state)

    def _replace(self, entries: listing.Entries) -> None:
        """A new list; the one in use stays in use."""
        entry = self.entry
        self.entries = entries
        if entry is not None:
            self.current = next(
                i for i, e in enumerate(entries) if listing.same(e.config, entry.config)
            )
