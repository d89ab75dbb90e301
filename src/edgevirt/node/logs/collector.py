"""From files that grow to bundles on the shelf, losing nothing on the way.

A file's mark advances on disk only after the bundle that holds its lines is durable. A cut in
between means that some lines are sent twice, never that they are not sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from edgevirt.node.logs.lines import Dedup, console_entry, service_entry
from edgevirt.node.logs.shelf import Shelf, Shelved
from edgevirt.node.logs.tail import Mark, Tail
from edgevirt.wire.logs import AppHeader, BundleWriter, LogEntry, LogsError, NodeHeader

MAX_AGE = 3.0
"""Seconds that a line waits for company before its bundle is closed."""
NODE = ""
"""Target of the node's own lines; an app's target is its id."""

_log = logging.getLogger(__name__)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far each file was read when its lines became durable."""

    marks: dict[str, tuple[int, int]] = {}


class AppNames(msgspec.Struct, frozen=True):
    """What the collector knows of an app: the name to show, its task, whether its logs leave."""

    display: str
    task: str
    stays: bool = False


class _Open(msgspec.Struct):
    """A bundle that is being filled."""

    writer: BundleWriter
    began: float
    marks: dict[str, Mark] = msgspec.field(default_factory=dict)


class Collector:
    """`announce` is called with each bundle that is ready to be sent."""

    def __init__(
        self,
        services: Path,
        consoles: Path,
        state: Path,
        shelf: Shelf,
        header: NodeHeader,
        announce: Callable[[Shelved], None],
    ) -> None:
        self._directories = {"node": services, "app": consoles}
        self._state = state
        self._shelf = shelf
        self._header = header
        self._announce = announce
        self._safe = _load(state)
        self._tails: dict[str, Tail] = {}
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self.dedup = Dedup(0)

    def turn(self, now: float, apps: Mapping[str, AppNames], node: str) -> int:
        """Reads what came, closes what is full or old. Returns the number of lines read."""
        self._header = msgspec.structs.replace(self._header, dev_id=node)
        read = 0
        for key, path, target in self._files():
            tail = self._tails.get(key)
            if tail is None:
                tail = self._tails[key] = Tail(
                    path, self._safe.get(key, Mark()), pieces=target != NODE
                )
            lines = tail.read()
            read += len(lines)
            if not lines and not path.exists():
                self._forget(key, target)
            for line in lines:
                self._add(target, self._entry(target, path, line, now, apps), now, apps)
            if lines and target in self._open:
                self._open[target].marks[key] = tail.mark
        for target, bundle in list(self._open.items()):
            if now - bundle.began >= MAX_AGE or now < bundle.began:
                self._close(target, now, apps)
        return read

    def flush(self, now: float, apps: Mapping[str, AppNames]) -> None:
        for target in list(self._open):
            self._close(target, now, apps)

    def rewind(self) -> None:
        """After a failed write: reads again from what is durable. Some may come twice."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()
        self._open.clear()

    def _files(self) -> list[tuple[str, Path, str]]:
        """(key, path, target) of each file that there is, or that may hold a last word."""
        keys = set(self._tails)
        for kind, directory in self._directories.items():
            keys.update(f"{kind}/{path.name}" for path in directory.glob("*.log"))
        found = []
        for key in sorted(keys):
            kind, name = key.split("/", 1)
            path = self._directories[kind] / name
            found.append((key, path, NODE if kind == "node" else path.stem))
        return found

    def _forget(self, key: str, target: str) -> None:
        """A file that is gone and read to its end, once its last lines are durable."""
        bundle = self._open.get(target)
        if bundle is None or key not in bundle.marks:
            self._tails.pop(key).close()
            self._safe.pop(key, None)  # the next file of that name may have its inode

    def _entry(
        self, target: str, path: Path, line: bytes, now: float, apps: Mapping[str, AppNames]
    ) -> LogEntry:
        if target == NODE:
            number = self._next(path.stem)
            return service_entry(line, path.stem, number, now)
        known = apps.get(target)
        source = known.task if known else target
        return console_entry(line, source, self._next(target), now)

    def _next(self, source: str) -> int:
        self._numbers[source] = self._numbers.get(source, 0) + 1
        return self._numbers[source]

    def _add(self, target: str, entry: LogEntry, now: float, apps: Mapping[str, AppNames]) -> None:
        if not self.dedup.is_new(entry):
            return
        for _ in range(2):
            bundle = self._open.get(target)
            if bundle is None:
                bundle = self._open[target] = _Open(self._writer(target, now, apps), now)
            try:
                if bundle.writer.add(entry):
                    return
            except LogsError as error:
                _log.warning("a line of %s is left out: %s", entry.source, error)
                return
            self._close(target, now, apps, full=True)

    def _writer(self, target: str, now: float, apps: Mapping[str, AppNames]) -> BundleWriter:
        if target == NODE:
            return BundleWriter(self._header, int(now))
        known = apps.get(target)
        return BundleWriter(AppHeader(known.display if known else target), int(now))

    def _close(
        self, target: str, now: float, apps: Mapping[str, AppNames], *, full: bool = False
    ) -> None:
        bundle = self._open[target]
        known = apps.get(target)
        stays = known.stays if known else False
        content = bundle.writer.finish()
        del self._open[target]
        shelved = self._shelf.put(content, target, now, stays=stays)
        self._advance(bundle.marks)
        if not stays:
            self._announce(shelved)

    def _advance(self, marks: Mapping[str, Mark]) -> None:
        """The lines up to these marks are durable: remember it, then free their blocks."""
        self._safe.update(marks)
        self._safe = {key: mark for key, mark in self._safe.items() if key in self._tails}
        _save(self._state, self._safe)
        for key, mark in marks.items():
            self._tails[key].release(mark)


def _load(path: Path) -> dict[str, Mark]:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, OSError) as error:
        _log.warning("cannot read how far logs were sent: %s; they are sent again", error)
        return {}
    return {key: Mark(*mark) for key, mark in kept.marks.items()}


def _save(path: Path, marks: Mapping[str, Mark]) -> None:
    """Without fsync: an older checkpoint after a power cut only means lines sent twice."""
    part = path.with_suffix(".part")
    content = Checkpoint({key: (mark.inode, mark.offset) for key, mark in marks.items()})
    part.write_bytes(msgspec.json.encode(content))
    part.rename(path)
