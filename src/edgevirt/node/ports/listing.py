"""The list of port configs: its order, who is kept, and who is next. Pure.

Order: what somebody at the machine or the controller wants, the latest wish first; then the others
by their time; the last resort last. An entry below one of somebody at the machine is never used:
that one was set by hand because the others would not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from edgevirt.model.ports import PortConfig, PortConfigEntry, PortSource

Entries: TypeAlias = tuple[PortConfigEntry, ...]

RECENT: Final = 300.0
"""Seconds: an entry that failed so shortly ago is passed over."""
_STEP: Final = 0.001
_RANKS: Final = {PortSource.MANUAL: 0, PortSource.CONTROLLER: 0, PortSource.LAST_RESORT: 2}
_ENTRIES_MAX: Final = 16


def same(one: PortConfig, other: PortConfig) -> bool:
    """The same ports from the same source, whenever they were asked for."""
    return one.source is other.source and one.ports == other.ports


def offer(entries: Entries, config: PortConfig) -> Entries:
    """The list with `config` in its place. A wish that is in force already changes nothing; one
    that comes back keeps what is known of it."""
    rivals = [entry for entry in entries if entry.config.source is config.source]
    if rivals and same(rivals[0].config, config):
        return entries
    known = next((entry for entry in rivals if same(entry.config, config)), None)
    rest = [entry for entry in entries if entry is not known]
    if config.source is not PortSource.CONTROLLER:
        rest = [entry for entry in rest if entry.config.source is not config.source]
    if _RANKS.get(config.source) == 0:
        above = max((entry.config.priority for entry in rest), default=0.0) + _STEP
        config = replace(config, priority=max(config.priority, above))
    entry = PortConfigEntry(config=config) if known is None else replace(known, config=config)
    return order([*rest, entry])


def order(entries: Sequence[PortConfigEntry]) -> Entries:
    def place(entry: PortConfigEntry) -> tuple[int, float]:
        return _RANKS.get(entry.config.source, 1), -entry.config.priority

    return tuple(sorted(entries, key=place))


def prune(entries: Entries, current: PortConfigEntry | None, *, last_resort: bool) -> Entries:
    """Who may still be needed: the first, the one in use, the one that worked last, the newest of
    the controller's and the last two of them that worked, what was set by hand; and of the other
    sources, until one of the controller's has worked. `last_resort`: it is kept in any case.

    Two, because one that passes its first test may still turn out to be a mistake.
    """
    working = max(entries, key=lambda entry: entry.last_succeeded, default=None)
    controlled = [e for e in entries if e.config.source is PortSource.CONTROLLER]
    proven = [entry for entry in controlled if entry.last_succeeded > 0]
    trusted = sorted(proven, key=lambda entry: -entry.last_succeeded)[:2]

    def stays(index: int, entry: PortConfigEntry) -> bool:
        source = entry.config.source
        if index == 0 or entry is current or entry in trusted or source is PortSource.MANUAL:
            return True
        if entry is working and entry.last_succeeded > 0:
            return True
        if source is PortSource.CONTROLLER:
            return entry is controlled[0]
        return not proven or (last_resort and source is PortSource.LAST_RESORT)

    return tuple(e for i, e in enumerate(entries) if stays(i, e))[:_ENTRIES_MAX]


def floor(entries: Entries) -> int:
    """How many entries may be used at all."""
    for index, entry in enumerate(entries):
        if entry.config.source is PortSource.MANUAL:
            return index + 1
    return len(entries)


def next_index(entries: Entries, failed: int, now: float) -> int | None:
    """Who is tried after `failed`: the ones below it, then the ones above; None when each of them
    failed a short time ago."""
    usable = floor(entries)
    turns = [*range(failed + 1, usable), *range(min(failed, usable))]
    return next((index for index in turns if not _failed_recently(entries[index], now)), None)


def parking_index(entries: Entries) -> int:
    """Where to wait when nothing works: set by hand, or worked last, or the first."""
    usable = entries[: floor(entries)]
    if usable and usable[-1].config.source is PortSource.MANUAL:
        return len(usable) - 1
    return max(range(len(usable)), key=lambda index: (usable[index].last_succeeded, -index))


def _failed_recently(entry: PortConfigEntry, now: float) -> bool:
    """A clock that was set back forgives."""
    failed = entry.last_failed
    return failed > entry.last_succeeded and 0 <= now - failed < RECENT
