"""Two slots in memory, and a boot loader for them: passes the suite that the real ones pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edgevirt.host.disk.slots import CHUNK, Progress, SlotError
from edgevirt.model.baseos import SlotState, choose_slot

IMAGE = b"image of "
"""What an image begins with here; its version follows, up to a newline."""


class FakeSlots:
    """`fails`: the next method of this name raises SlotError, once."""

    def __init__(
        self,
        current: str = "IMGA",
        size: int = 64 << 20,
        labels: tuple[str, ...] = ("IMGA", "IMGB"),
    ) -> None:
        self.current = current
        self.labels = labels
        self.contents = dict.fromkeys(self.labels, b"")
        self.fails = ""
        self._states = dict.fromkeys(self.labels, SlotState.UNUSED)
        self._states[current] = SlotState.ACTIVE
        self._size = size

    def restart(self) -> str:
        """What the boot loader does: chooses, and says which slot now runs."""
        self.current, self._states = choose_slot(self._states)
        return self.current

    def states(self) -> dict[str, SlotState]:
        self._maybe_fail("states")
        return dict(self._states)

    def set_states(self, states: Mapping[str, SlotState]) -> None:
        self._maybe_fail("set_states")
        self._states.update(states)

    def size(self, label: str) -> int:
        return self._size

    def device(self, label: str) -> str:
        return f"/dev/fake-{label}"

    def version(self, label: str) -> str:
        content = self.contents[label]
        if not content.startswith(IMAGE):
            return ""
        return content[len(IMAGE) :].split(b"\n")[0].decode()

    def write(self, label: str, source: Path, progress: Progress) -> None:
        self._maybe_fail("write")
        if label == self.current:
            raise SlotError(f"cannot write to {label}: the node runs from it")
        old, new = self.contents[label], source.read_bytes()
        for done in range(0, len(new), CHUNK):
            end = min(done + CHUNK, len(new))
            self.contents[label] = new[:end] + old[end:]
            progress(end)

    def digest(self, label: str, length: int, progress: Progress) -> str:
        self._maybe_fail("digest")
        content = self.contents[label][:length]
        if len(content) < length:
            raise SlotError(f"cannot read {label} back: it ends after {len(content)} bytes")
        progress(length)
        return hashlib.sha256(content).hexdigest()

    def _maybe_fail(self, method: str) -> None:
        if self.fails == method:
            self.fails = ""
            raise SlotError(f"cannot do {method}: asked to fail")
