"""Sticks that are not there (`tests/conformance/test_sticks.py` has the laws)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgevirt.host.disk.sticks import StickError


@dataclass
class FakeStick:
    """`directories` include none that isn't made; the root is always there."""

    files: dict[str, bytes] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)


@dataclass
class FakeSticks:
    """`plugged` by device."""

    plugged: dict[str, FakeStick] = field(default_factory=dict)

    async def find(self) -> Sequence[str]:
        return sorted(self.plugged)

    async def read(self, stick: str, path: str) -> bytes | None:
        return self._stick(stick).files.get(path)

    async def has_directory(self, stick: str, path: str) -> bool:
        return path in self._stick(stick).directories

    async def make_directory(self, stick: str, path: str) -> None:
        self._stick(stick).directories.add(path)

    async def write(self, stick: str, path: str, content: bytes) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self._stick(stick).directories:
            raise StickError(f"cannot write to the stick {stick}: no directory {parent}")
        self._stick(stick).files[path] = content

    def _stick(self, stick: str) -> FakeStick:
        try:
            return self.plugged[stick]
        except KeyError:
            raise StickError(f"cannot look at the stick {stick}: it is not there") from None
