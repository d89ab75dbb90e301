"""The node's own operating system: what is wanted, the two slots that hold it, and an update.

A slot is one of the two partitions for root images (`IMGA`, `IMGB`); it is known by its label.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.ids import ContentTreeId
from edgevirt.model.machine import BootReason


class SlotState(enum.StrEnum):
    """What stage one of the boot loader goes by.

    active      boots when no other slot is to be tried.
    updating    is tried at the next start, once: the boot loader makes it `inprogress` first.
    inprogress  is being tried, or was and failed: any other start boots the active one.
    unused      never boots.
    """

    ACTIVE = "active"
    UPDATING = "updating"
    INPROGRESS = "inprogress"
    UNUSED = "unused"


def choose_slot(states: Mapping[str, SlotState]) -> tuple[str, dict[str, SlotState]]:
    """What stage one of the boot loader does with these states, which it cannot be told otherwise.

    The label of the slot that runs, and the states as they are then.
    """
    after = dict(states)
    for label, state in states.items():
        if state is SlotState.UPDATING:
            after[label] = SlotState.INPROGRESS
            return label, after
    active = [label for label, state in states.items() if state is SlotState.ACTIVE]
    return (active or list(states))[0], after


class BaseOs(Noun, frozen=True, kw_only=True):
    """The operating system that the node should run. Key: `node`. agent → baseos, volumes.

    `rest`: what the wire's message holds besides.
    """

    content_tree: ContentTreeId
    """Of the root image; empty: none is named."""
    version: str
    """Must equal the version that the image itself says."""
    activate: bool = False
    """False: fetched and verified, not installed."""
    retry_counter: int | None = None
    """A new value lets a version that failed be tried once more; None: none was sent."""
    rest: bytes = b""


class Slot(Noun, frozen=True, kw_only=True):
    """One slot as it is. Key: its label. baseos → all. In host mode there is `IMGA` alone."""

    label: str
    state: SlotState
    current: bool
    """The node runs from it."""
    version: str = ""
    """Of the image in it; empty: none, or not readable."""
    device: str = ""
    size: int = 0
    """Bytes of the partition."""
    trouble: Trouble | None = None
    """Why what was in it failed."""


class UpdateStep(enum.StrEnum):
    """Where the wanted version is, in the order of a good update."""

    IDLE = "idle"
    """No version is wanted."""
    FETCHING = "fetching"
    """Its image is not whole on the node yet, or only that was asked for."""
    WRITING = "writing"
    REBOOTING = "rebooting"
    TESTING = "testing"
    DONE = "done"
    FAILED = "failed"


class BaseOsStatus(Noun, frozen=True, kw_only=True):
    """How it is with the wanted operating system. Key: `node`. baseos → all."""

    step: UpdateStep
    since: float
    """Wall clock since when it is in that step."""
    current: str = ""
    """Label of the slot that the node runs from."""
    version: str = ""
    """The wanted one."""
    content: SwState = SwState.INITIAL
    """How far the image's content tree is."""
    progress: int = 0
    """Percent of the step, where it can be told."""
    updating: bool = False
    """A version is being installed or tested: apps that do not run yet wait."""
    test_left: float | None = None
    """Seconds that are left of the test, as of the last change; None: its clock does not run."""
    retry_counter: int = 0
    """The last one that was heeded."""
    reboot: str = ""
    """What the node is to restart for, when it is."""
    trouble: Trouble | None = None


class UpdateTimes(Noun, frozen=True, kw_only=True):
    """Seconds, of the properties of the last config. Key: `node`. Within baseos.

    It outlives a restart: a version that cannot read its config is left in time all the same.
    """

    test: float = 600.0
    """timer.test.baseimage.update"""
    silent: float = 300.0
    """timer.update.fallback.no.network"""
    vault: float = 300.0
    """timer.vault.ready.cutoff"""
    alone: float = 604_800.0
    """timer.reboot.no.network"""


class Install(Noun, frozen=True, kw_only=True):
    """A root image that is to be written into a slot."""

    label: str
    path: str
    digest: str
    """SHA-256 in lower-case hex."""
    version: str
    attempt: int = 0
    """Another one is another install, though all else is the same."""


class SlotPlan(Noun, frozen=True, kw_only=True):
    """What the slots are to become. Key: `node`. Within baseos.

    `install` comes first; while it is under way its slot is `unused`. `states` change together.
    """

    install: Install | None = None
    states: tuple[tuple[str, SlotState], ...] = ()


class SlotsFound(Noun, frozen=True, kw_only=True):
    """What the slots are. Key: `node`. Within baseos. `slots`: the current one first."""

    slots: tuple[Slot, ...] = ()
    install: Install | None = None
    """The one that `progress`, `installed` and `trouble` are about."""
    progress: int = 0
    """Percent."""
    installed: bool = False
    """Written, and read back as it should be."""
    trouble: Trouble | None = None


class UpdateMemory(Noun, frozen=True, kw_only=True):
    """What must outlive a restart of the node. Key: `node`. Within baseos.

    Counters: the last ones heeded; None: none was ever seen.
    """

    retry_counter: int | None = None
    fallback_counter: int | None = None
    failed_version: str = ""
    """Refused until the retry counter moves."""
    failure: str = ""
    failed_at: float = 0.0
    rearmed: str = ""
    """A version that failed and may be tried again, while its slot still says that it failed."""


class UpdateTest(Noun, frozen=True, kw_only=True):
    """The clocks of a test, in monotonic seconds of this run of the machine. Within baseos."""

    silent_from: float | None = None
    """Since when the controller has not been reached; None: it is."""
    config_at: float | None = None
    """When the first config came from it."""
    window_from: float | None = None
    """Since when the version counts as good, if nothing happens; None: not now."""


class NodeReboot(Noun, frozen=True, kw_only=True):
    """A start of the node anew that baseos asks for. Key: `node`. baseos → supervisor, agent."""

    reason: BootReason
    why: str
    at: float
    """When it was asked for."""
    stack: str = ""
    """What helps to find out why; kept for the next run's report."""
