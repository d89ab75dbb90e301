"""The reconciler: makes the slots what the plan says, and tells what they are."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from edgevirt.host.disk.slots import Progress, SlotError, Slots
from edgevirt.model.base import Trouble
from edgevirt.model.baseos import Install, Slot, SlotPlan, SlotsFound, SlotState
from edgevirt.model.kinds import SLOT_PLAN, SLOTS_FOUND
from edgevirt.runtime import Clock, Inputs, Kind, Report, Retry

_LOOK: Final = 1.0
"""Seconds between two words on how far a write is."""
_WRITTEN: Final = 80
"""Percent, when all is written; the rest is reading back."""


class _Stopped(Exception):
    """Nobody wants it any more."""


class Writing:
    """One install under way, or over. Its thread ends by itself within a chunk of being stopped."""

    def __init__(self, slots: Slots, install: Install) -> None:
        self.install = install
        self.progress = 0
        self.installed = False
        self.why = ""
        self._slots = slots
        self._stop = threading.Event()
        self._task = asyncio.create_task(asyncio.to_thread(self._run))

    @property
    def running(self) -> bool:
        return not self._task.done()

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def wait(self, clock: Clock, seconds: float) -> None:
        """Until it is over, or `seconds` passed."""
        timer = asyncio.create_task(clock.sleep(seconds))
        await asyncio.wait({self._task, timer}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()

    def _run(self) -> None:
        install, slots = self.install, self._slots
        try:
            source = Path(install.path)
            length = os.stat(source).st_size
            if length > slots.size(install.label):
                raise SlotError(f"cannot install {install.version}: it is too large")
            slots.set_states({install.label: SlotState.UNUSED})
            slots.write(install.label, source, self._heed(0, _WRITTEN, length))
            digest = slots.digest(install.label, length, self._heed(_WRITTEN, 100, length))
            if digest != install.digest:
                raise SlotError(
                    f"cannot install {install.version}: {install.label} does not hold "
                    "what was written to it"
                )
            version = slots.version(install.label)
            if version != install.version:
                raise SlotError(
                    f"cannot install {install.version}: the image says that it is "
                    f"{version or 'no version of this system'}"
                )
            self.installed = True
        except _Stopped:
            self.why = "stopped"
        except (SlotError, OSError) as error:
            self.why = str(error)

    def _heed(self, begin: int, end: int, length: int) -> Progress:
        """A part of the whole, from `begin` to `end` percent."""

        def heed(done: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            self.progress = begin + (end - begin) * done // max(1, length)

        return heed


class SlotsReconciler:
    name = "slots"
    spec: Kind[Any] = SLOT_PLAN
    status: Kind[Any] = SLOTS_FOUND
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self.recheck = None
        self._slots = slots
        self._clock = clock
        self._writing: Writing | None = None
        self._versions: dict[str, str] = {}

    async def reconcile(
        self, key: str, spec: SlotPlan | None, inputs: Inputs, report: Report[SlotsFound]
    ) -> SlotsFound | None:
        plan = spec or SlotPlan()
        await self._follow(plan.install)
        trouble: Trouble | None = None
        try:
            await self._switch(plan)
        except SlotError as error:
            trouble = Trouble(why=str(error), since=inputs.now)
        await report(await self._found(trouble))
        if self._writing is not None and self._writing.running:
            await self._writing.wait(self._clock, _LOOK)
            self.recheck = 0.0
            return await self._found(trouble)
        self.recheck = None
        if trouble is not None:
            raise Retry(trouble.why)
        return await self._found(None)

    async def existing(self) -> Iterable[str]:
        return ("node",)

    async def _follow(self, install: Install | None) -> None:
        """One write at a time: what is no longer wanted is stopped before anything else begins."""
        writing = self._writing
        if writing is not None and writing.install == install:
            return
        if writing is not None:
            await writing.stop()
            self._writing = None
            self._versions.clear()
        if install is not None:
            self._versions.pop(install.label, None)
            self._writing = Writing(self._slots, install)

    async def _switch(self, plan: SlotPlan) -> None:
        if not plan.states or (self._writing is not None and self._writing.running):
            return
        present = await asyncio.to_thread(self._slots.states)
        wanted = dict(plan.states)
        if any(present.get(label) is not state for label, state in wanted.items()):
            await asyncio.to_thread(self._slots.set_states, wanted)

    async def _found(self, trouble: Trouble | None) -> SlotsFound:
        slots, known = await asyncio.to_thread(self._look)
        writing = self._writing
        if writing is None:
            return SlotsFound(slots=slots, trouble=trouble or known)
        over = not writing.running
        failed = Trouble(why=writing.why, since=self._clock.now()) if over and writing.why else None
        return SlotsFound(
            slots=slots,
            install=writing.install,
            progress=writing.progress,
            installed=over and writing.installed,
            trouble=trouble or failed or known,
        )

    def _look(self) -> tuple[tuple[Slot, ...], Trouble | None]:
        trouble: Trouble | None = None
        try:
            states = self._slots.states()
        except SlotError as error:
            trouble = Trouble(why=str(error), since=self._clock.now())
            # as the boot loader takes it
            states = dict.fromkeys(self._slots.labels, SlotState.UNUSED)
            states[self._slots.current] = SlotState.ACTIVE
        current = self._slots.current
        labels = sorted(self._slots.labels, key=lambda label: label != current)
        return tuple(self._slot(label, states[label]) for label in labels), trouble

    def _slot(self, label: str, state: SlotState) -> Slot:
        busy = self._writing is not None and self._writing.running
        if busy and self._writing is not None and self._writing.install.label == label:
            version = ""
        else:
            if label not in self._versions:
                self._versions[label] = self._slots.version(label)
            version = self._versions[label]
        return Slot(
            label=label,
            state=state,
            current=label == self._slots.current,
            version=version,
            device=self._slots.device(label),
            size=self._slots.size(label),
        )
