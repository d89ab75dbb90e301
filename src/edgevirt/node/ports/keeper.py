"""Which port config is in use: tries, keeps, falls back. No I/O: it is told what happens and when,
and says what to do next.

A config is **tried** until one of its ports reaches the controller, or it has failed; then the next
one is. The one that works is **kept**, and tested again and again; when it isn't the preferred one,
the preferred one is tried again from time to time. When nothing works, one is **parked** at for a
while. The times: EVE's (docs/DEVICE-CONNECTIVITY.md and CONFIG-PROPERTIES.md).
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.probe import Finding
from edgevirt.model.port_config import last_resort
from edgevirt.model.ports import (
    PortConfig,
    PortConfigEntry,
    PortConfigList,
    PortConfigState,
    PortSettings,
    PortSource,
    Reach,
)
from edgevirt.node.ports import listing
from edgevirt.node.ports.readiness import DEFINITE, TEMPORARY, candidates, obstacle, sentence

_LOG: Final = logging.getLogger("edgevirt.ports")

INTERFACE_UNITS: Final = 2
ADDRESS_UNITS: Final = 5
"""So many test durations a config may wait for an interface, and for an address."""
FAILURES: Final = 2
"""So many tests in a row fail until a config that worked has to prove itself again."""
ASK_AGAIN: Final = 5.0
AFTER_CHANGE: Final = 2.0
"""Seconds from a change of an interface to a test."""


class Moment(msgspec.Struct, frozen=True):
    """`now`: wall clock, for stamps; `monotonic`: for deadlines."""

    now: float
    monotonic: float


class Timers(msgspec.Struct, frozen=True):
    """Seconds; `better` 0: never."""

    duration: float = 30.0
    interval: float = 300.0
    better: float = 600.0
    timeout: float = 15.0


class Apply(msgspec.Struct, frozen=True):
    """Set the machine up by this config; then look at its interfaces again."""

    config: PortConfig


class Test(msgspec.Struct, frozen=True):
    """Ask the controller by each of these ports. `turn`: of the question."""

    __test__ = False

    ports: tuple[PortSettings, ...]
    turn: int


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do for so long, if nothing happens. None: for ever."""

    seconds: float | None


Step: TypeAlias = Apply | Test | Wait


class Phase(enum.Enum):
    TRYING = "trying"
    KEEPING = "keeping"
    PARKED = "parked"


class Keeper:
    """`entries`, `current`: the list, and the index of the one that the machine is to be set up by.

    `findings`: by port of the present one, what is known since it is in use.
    """

    def __init__(self, kept: PortConfigList, moment: Moment, timers: Timers | None = None) -> None:
        self.entries = listing.order(kept.entries)
        self.current = -1
        self.timers = timers or Timers()
        self.any_ethernet = False
        """Whether the last resort stays at hand (`network.fallback.any.eth`)."""
        self.findings: dict[str, Finding] = {}
        self.since = moment.now
        self.phase = Phase.PARKED
        self._interfaces: Mapping[str, Interface] = {}
        self._applied: object = None
        self._turn = 0
        self._groups: list[list[PortSettings]] = []
        self._began = self._test_at = moment.monotonic
        self._testable_since: float | None = None
        self._better_at: float | None = None
        self._failures = 0
        if 0 <= kept.current < len(kept.entries):
            self._try(self.entries.index(kept.entries[kept.current]), moment)

    @property
    def entry(self) -> PortConfigEntry | None:
        return self.entries[self.current] if self.current >= 0 else None

    @property
    def kept(self) -> PortConfigList:
        return PortConfigList(entries=self.entries, current=self.current)

    # -- what happens -----------------------------------------------------------------------------

    def offer(self, config: PortConfig, moment: Moment) -> None:
        """A source says what it wants. It is tried at once if it comes first now, or if nothing
        that is known works."""
        before = self.entries
        self._replace(listing.offer(self.entries, config))
        if self.entries is before:
            return
        _LOG.info("a port config of %s", config.source)
        index = next(i for i, e in enumerate(self.entries) if listing.same(e.config, config))
        works = self.phase is Phase.KEEPING
        if index == self.current:
            self._better_at = None if index == 0 else self._better_at
            return
        if self.current < 0 or index == 0 or (not works and index < listing.floor(self.entries)):
            self._try(index, moment)

    def see(self, interfaces: Mapping[str, Interface], moment: Moment) -> None:
        """How the machine's interfaces are now."""
        before, self._interfaces = self._interfaces, dict(interfaces)
        self._keep_last_resort(moment)
        if self.phase is not Phase.TRYING and self._differ(before):
            self._test_at = min(self._test_at, moment.monotonic + AFTER_CHANGE)

    def applied(self) -> None:
        """What Apply asked for is done."""
        self._applied = self._wanted()

    def refused(self, why: str, moment: Moment) -> None:
        """The machine cannot be set up by the one that is in use."""
        self._fail(PortConfigState.FAIL, why, moment)

    def tested(self, turn: int, findings: Mapping[str, Finding], moment: Moment) -> None:
        """The answers to a Test, by name of the port. Those to one of before are of no interest."""
        if turn != self._turn or self.entry is None:
            return
        self.findings.update(findings)
        good = any(finding.reach is Reach.OK for finding in findings.values())
        if self._groups and not good:
            return  # the costlier ports come next
        self._groups.clear()
        self._turn += 1
        if good:
            self._pass(moment)
        elif any(self.findings[name].reach in TEMPORARY for name in self._asked()):
            self._excuse(moment)
        elif self.phase is Phase.TRYING:
            self._test_at = moment.monotonic + ASK_AGAIN
        else:
            self._count_failure(moment)

    # -- what to do -------------------------------------------------------------------------------

    def next(self, moment: Moment) -> Step:
        """Ask again after each event, and when the Wait is over."""
        if self.entry is None:
            return Wait(None)
        if self._applied != self._wanted():
            self._abandon_test()
            return Apply(self.entry.config)
        if self._groups:
            return Test(tuple(self._groups.pop(0)), self._turn)
        if self.phase is Phase.TRYING:
            return self._next_of_try(moment)
        if self._better_at is not None and moment.monotonic >= self._better_at:
            self._try(0, moment)
            return self.next(moment)
        if moment.monotonic >= self._test_at:
            if self._begin_test():
                return self.next(moment)
            self._count_failure(moment)
            return self.next(moment)
        due = [self._test_at, *([self._better_at] if self._better_at is not None else [])]
        return Wait(min(due) - moment.monotonic)

    def _next_of_try(self, moment: Moment) -> Step:
        testable = self._look()
        elapsed = moment.monotonic - self._began
        if testable and self._testable_since is None:
            self._testable_since = self._test_at = moment.monotonic
        deadline = self._deadline(bool(testable))
        if deadline is not None and elapsed >= deadline:
            state = PortConfigState.FAIL_WITH_IP_AND_DNS if testable else PortConfigState.FAIL
            self._fail(state, self._why(), moment)
            return self.next(moment)
        if testable and moment.monotonic >= self._test_at:
            self._begin_test()
            return self.next(moment)
        due = [] if deadline is None else [deadline - elapsed]
        due += [self._test_at - moment.monotonic] if testable else []
        return Wait(max(0.0, min(due)) if due else None)

    def _look(self) -> list[PortSettings]:
        """Ports by which the controller can be asked; what hinders the others is noted."""
        entry = self.entries[self.current]
        testable = []
        for port in candidates(entry.config):
            hindrance = obstacle(port, self._interfaces)
            if hindrance is None:
                testable.append(port)
                known = self.findings.get(port.name)
                if known is not None and known.reach in (Reach.NO_LINK, Reach.NO_ADDRESS):
                    del self.findings[port.name]
            else:
                self.findings[port.name] = hindrance
        if self.phase is Phase.TRYING:
            self._set_state(self._waiting_state(testable))
        return testable

    def _waiting_state(self, testable: list[PortSettings]) -> PortConfigState:
        if testable:
            return PortConfigState.REMOTE_WAIT
        present = any(p.ifname in self._interfaces for p in self._candidates())
        return PortConfigState.IP_DNS_WAIT if present else PortConfigState.INTERFACE_WAIT

    def _deadline(self, testable: bool) -> float | None:
        """Seconds from the beginning of the try until it has failed; 0.0: it has."""
        duration = self.timers.duration
        ports = self._candidates()
        if not ports:
            return 0.0
        if not any(port.ifname in self._interfaces for port in ports):
            return INTERFACE_UNITS * duration
        if not testable or self._testable_since is None:
            return ADDRESS_UNITS * duration
        asked = self._testable_since - self._began + duration
        reaches = [self.findings[p.name].reach for p in ports if p.name in self.findings]
        waiting = any(reach in (Reach.NO_LINK, Reach.NO_ADDRESS) for reach in reaches)
        definite = bool(reaches) and all(reach in DEFINITE for reach in reaches)
        if definite and len(reaches) == len(ports):
            return 0.0
        return max(asked, ADDRESS_UNITS * duration) if waiting else asked

    def _wanted(self) -> object:
        """An interface that appears is set up too."""
        return self.entry and (self.entry.config.ports, frozenset(self._interfaces))

    # -- transitions ------------------------------------------------------------------------------

    def _try(self, index: int, moment: Moment) -> None:
        entry = self.entries[index]
        _LOG.info("trying the port config of %s (index %d)", entry.config.source, index)
        if index != self.current:
            self.findings = {}
        self.current = index
        self.phase = Phase.TRYING
        self.since = moment.now
        self._began = self._test_at = moment.monotonic
        self._testable_since = None
        self._better_at = None
        self._failures = 0
        self._abandon_test()
        self._set_state(PortConfigState.NONE)

    def _pass(self, moment: Moment) -> None:
        self._update(
            state=PortConfigState.SUCCESS,
            last_succeeded=moment.now,
            last_error="",
            errors=self._errors(),
        )
        if self.phase is not Phase.KEEPING:
            _LOG.info("the port config of %s works", self.entries[self.current].config.source)
        self._keep(moment, self.timers.interval)
        self._replace(
            listing.prune(self.entries, self.entry, last_resort=self.any_ethernet or not self._sure)
        )

    def _excuse(self, moment: Moment) -> None:
        """The fault is at the other end and will pass: as good as working, but asked sooner."""
        self._update(
            state=PortConfigState.REMOTE_WAIT, last_error=self._why(), errors=self._errors()
        )
        self._keep(moment, self.timers.duration)

    def _keep(self, moment: Moment, test_in: float) -> None:
        if self.phase is not Phase.KEEPING:
            self.since = moment.now
        self.phase = Phase.KEEPING
        self._failures = 0
        self._test_at = moment.monotonic + test_in
        if self.current == 0 or not self.timers.better:
            self._better_at = None
        elif self._better_at is None:
            self._better_at = moment.monotonic + self.timers.better

    def _count_failure(self, moment: Moment) -> None:
        """Of one that worked, or is parked at: the first time proves nothing."""
        self._failures += 1
        self._update(last_error=self._why(), errors=self._errors())
        _LOG.warning("%s", self._why())
        self._test_at = moment.monotonic + self.timers.interval
        if self.phase is Phase.KEEPING and self._failures >= FAILURES:
            self._try(self.current, moment)

    def _fail(self, state: PortConfigState, why: str, moment: Moment) -> None:
        self._update(state=state, last_failed=moment.now, last_error=why, errors=self._errors())
        _LOG.error(
            "the port config of %s failed: %s", self.entries[self.current].config.source, why
        )
        index = listing.next_index(self.entries, self.current, moment.now)
        if index is not None:
            self._try(index, moment)
            return
        self._park(moment)

    def _park(self, moment: Moment) -> None:
        index = listing.parking_index(self.entries)
        if index != self.current:
            self.findings = {}
        self.current = index
        self.phase = Phase.PARKED
        self.since = moment.now
        self._failures = 0
        self._abandon_test()
        self._test_at = moment.monotonic + ASK_AGAIN
        self._better_at = moment.monotonic + listing.RECENT
        source = self.entries[index].config.source
        _LOG.error("no port config works; waiting with that of %s", source)

    # -- the list ---------------------------------------------------------------------------------

    @property
    def _sure(self) -> bool:
        """Whether a config of the controller's ever worked."""
        return any(
            entry.last_succeeded > 0
            for entry in self.entries
            if entry.config.source is PortSource.CONTROLLER
        )

    def _keep_last_resort(self, moment: Moment) -> None:
        """At hand until a config of the controller's has worked; it follows what there is."""
        present = [e for e in self.entries if e.config.source is PortSource.LAST_RESORT]
        if not self._interfaces or (self._sure and not self.any_ethernet and not present):
            return
        config = last_resort(self._interfaces)
        if not present:
            self.offer(config, moment)
        elif present[0].config.ports != config.ports:
            entry = replace(present[0], config=config)
            self.entries = tuple(entry if e is present[0] else e for e in self.entries)

    def _replace(self, entries: listing.Entries) -> None:
        """A new list; the one in use stays in use."""
        entry = self.entry
        self.entries = entries
        if entry is not None:
            self.current = next(
                i for i, e in enumerate(entries) if listing.same(e.config, entry.config)
            )

    def _update(self, **changes: object) -> None:
        changed = replace(self.entries[self.current], **changes)
        self.entries = tuple(
            changed if index == self.current else entry for index, entry in enumerate(self.entries)
        )

    def _set_state(self, state: PortConfigState) -> None:
        if self.entries[self.current].state is not state:
            self._update(state=state)

    # -- tests ------------------------------------------------------------------------------------

    def _begin_test(self) -> bool:
        """Ports of one cost are asked side by side, the cheapest first. False: there are none."""
        testable = self._look()
        costs = sorted({port.cost for port in testable})
        self._groups = [[port for port in testable if port.cost == cost] for cost in costs]
        return bool(self._groups)

    def _abandon_test(self) -> None:
        self._groups.clear()
        self._turn += 1

    def _candidates(self) -> list[PortSettings]:
        return candidates(self.entries[self.current].config)

    def _asked(self) -> Iterable[str]:
        return (port.name for port in self._candidates() if port.name in self.findings)

    def _errors(self) -> tuple[tuple[str, str], ...]:
        found = {name: self.findings[name].why for name in self._asked()}
        return tuple((name, why) for name, why in found.items() if why)

    def _why(self) -> str:
        troubles = [p.trouble for p in self.entries[self.current].config.ports if p.trouble]
        if not self._candidates():
            return "; ".join(troubles) or "cannot reach the controller: no port is for management"
        return sentence({name: self.findings[name] for name in self._asked()})

    def _differ(self, before: Mapping[str, Interface]) -> bool:
        """Whether anything changed by which the controller may be reached, or not any more."""
        if self.entry is None:
            return False
        return any(
            _shape(before.get(port.ifname)) != _shape(self._interfaces.get(port.ifname))
            for port in self._candidates()
        )


def _shape(found: Interface | None) -> object:
    return found and (found.up, found.addresses, found.routers, found.dns)
