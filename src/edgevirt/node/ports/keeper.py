"""Which port config is in use: tries, keeps, falls back. No I/O: it is told what happens and when,
and says what to do next.

A config is **tried** until one of its ports reaches the controller, or it has failed; then the next
one is. The one that works is **kept**, and tested again and again; when it isn't the preferred one,
the preferred one is tried again from time to time. When nothing works, one is **parked** at for a
while. The times: EVE's (docs/DEVICE-CONNECTIVITY.md and CONFIG-PROPERTIES.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.probe import Finding
from edgevirt.model.port_config import last_resort
from edgevirt.model.ports import PortConfig, PortConfigEntry, PortConfigList, PortConfigState
from edgevirt.node.ports import listing
from edgevirt.node.ports.kept_list import KeptList
from edgevirt.node.ports.questions import Questions
from edgevirt.node.ports.readiness import candidates
from edgevirt.node.ports.steps import Apply, Moment, Phase, Step, Timers, Wait

_LOG: Final = logging.getLogger("edgevirt.ports")

INTERFACE_UNITS: Final = 2
ADDRESS_UNITS: Final = 5
"""So many test durations a config may wait for an interface, and for an address."""
FAILURES: Final = 2
"""So many tests in a row fail until a config that worked has to prove itself again."""
ASK_AGAIN: Final = 5.0
AFTER_CHANGE: Final = 2.0
"""Seconds from a change of an interface to a test."""


class Keeper:
    """The state machine. `listed`: the configs; `questions`: what is known of their ports."""

    def __init__(self, kept: PortConfigList, moment: Moment, timers: Timers | None = None) -> None:
        self.listed = KeptList(kept)
        self.questions = Questions()
        self.timers = timers or Timers()
        self.any_ethernet = False
        """Whether the last resort stays at hand (`network.fallback.any.eth`)."""
        self.since = moment.now
        self.phase = Phase.PARKED
        self._applied: object = None
        self._began = self._test_at = moment.monotonic
        self._testable_since: float | None = None
        self._better_at: float | None = None
        self._failures = 0
        if 0 <= kept.current < len(kept.entries):
            self._try(self.listed.entries.index(kept.entries[kept.current]), moment)

    @property
    def entry(self) -> PortConfigEntry | None:
        return self.listed.entry

    @property
    def kept(self) -> PortConfigList:
        return self.listed.kept

    # -- what happens -----------------------------------------------------------------------------

    def offer(self, config: PortConfig, moment: Moment) -> None:
        """A source says what it wants. It is tried at once if it comes first now, or if nothing
        that is known works."""
        index = self.listed.offer(config)
        if index is None:
            return
        _LOG.info("a port config of %s", config.source)
        works, current = self.phase is Phase.KEEPING, self.listed.current
        if index == current:
            self._better_at = None if index == 0 else self._better_at
            return
        usable = listing.floor(self.listed.entries)
        if current < 0 or index == 0 or (not works and index < usable):
            self._try(index, moment)

    def see(self, interfaces: Mapping[str, Interface], moment: Moment) -> None:
        """How the machine's interfaces are now."""
        before, self.questions.interfaces = self.questions.interfaces, dict(interfaces)
        self._keep_last_resort(moment)
        if self.entry is None or self.phase is Phase.TRYING:
            return
        if self.questions.differ(self.listed.config, before):
            self._test_at = min(self._test_at, moment.monotonic + AFTER_CHANGE)

    def applied(self) -> None:
        """What Apply asked for is done."""
        self._applied = self._wanted()

    def refused(self, why: str, moment: Moment) -> None:
        """The machine cannot be set up by the one that is in use."""
        self._fail(PortConfigState.FAIL, why, moment)

    def tested(self, turn: int, findings: Mapping[str, Finding], moment: Moment) -> None:
        """The answers to a Test, by name of the port. Those to one of before are of no interest."""
        if self.entry is None:
            return
        good = self.questions.hear(turn, findings)
        if good is None:
            return
        if good:
            self._pass(moment)
        elif self.questions.will_pass(self.listed.config):
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
            self.questions.abandon()
            return Apply(self.entry.config)
        test = self.questions.next()
        if test is not None:
            return test
        if self.phase is Phase.TRYING:
            return self._next_of_try(moment)
        if self._better_at is not None and moment.monotonic >= self._better_at:
            self._try(0, moment)
            return self.next(moment)
        if moment.monotonic >= self._test_at:
            if not self.questions.begin(self.entry.config):
                self._count_failure(moment)
            return self.next(moment)
        due = [self._test_at, *([self._better_at] if self._better_at is not None else [])]
        return Wait(min(due) - moment.monotonic)

    def _next_of_try(self, moment: Moment) -> Step:
        config = self.listed.config
        testable = self._look()
        elapsed = moment.monotonic - self._began
        if testable and self._testable_since is None:
            self._testable_since = self._test_at = moment.monotonic
        deadline = self._deadline(testable)
        if deadline is not None and elapsed >= deadline:
            state = PortConfigState.FAIL_WITH_IP_AND_DNS if testable else PortConfigState.FAIL
            self._fail(state, self.questions.why(config), moment)
            return self.next(moment)
        if testable and moment.monotonic >= self._test_at:
            self.questions.begin(config)
            return self.next(moment)
        due = [] if deadline is None else [deadline - elapsed]
        due += [self._test_at - moment.monotonic] if testable else []
        return Wait(max(0.0, min(due)) if due else None)

    def _look(self) -> bool:
        """Whether there is a port to ask by. What the config waits for is noted."""
        config = self.listed.config
        if self.questions.look(config):
            self.listed.note_state(PortConfigState.REMOTE_WAIT)
            return True
        present = self.questions.has_interface(config)
        waits = PortConfigState.IP_DNS_WAIT if present else PortConfigState.INTERFACE_WAIT
        self.listed.note_state(waits)
        return False

    def _deadline(self, testable: bool) -> float | None:
        """Seconds from the beginning of the try until it has failed; 0.0: it has."""
        duration, config = self.timers.duration, self.listed.config
        if not candidates(config):
            return 0.0
        if not self.questions.has_interface(config):
            return INTERFACE_UNITS * duration
        if not testable or self._testable_since is None:
            return ADDRESS_UNITS * duration
        if self.questions.is_hopeless(config):
            return 0.0
        asked = self._testable_since - self._began + duration
        waiting = self.questions.is_waiting(config)
        return max(asked, ADDRESS_UNITS * duration) if waiting else asked

    def _wanted(self) -> object:
        """An interface that appears is set up too."""
        return self.entry and (self.entry.config.ports, frozenset(self.questions.interfaces))

    # -- transitions ------------------------------------------------------------------------------

    def _try(self, index: int, moment: Moment) -> None:
        entry = self.listed.entries[index]
        _LOG.info("trying the port config of %s (index %d)", entry.config.source, index)
        self._use(index)
        self.phase = Phase.TRYING
        self.since = moment.now
        self._began = self._test_at = moment.monotonic
        self._testable_since = None
        self._better_at = None
        self._failures = 0
        self.questions.abandon()
        self.listed.note_state(PortConfigState.NONE)

    def _pass(self, moment: Moment) -> None:
        self.listed.note(
            state=PortConfigState.SUCCESS,
            last_succeeded=moment.now,
            last_error="",
            errors=self.questions.errors(self.listed.config),
        )
        if self.phase is not Phase.KEEPING:
            _LOG.info("the port config of %s works", self.listed.config.source)
        self._keep(moment, self.timers.interval)
        self.listed.prune(last_resort=self.any_ethernet)

    def _excuse(self, moment: Moment) -> None:
        """The fault is at the other end and will pass: as good as working, but asked sooner."""
        self.listed.note(
            state=PortConfigState.REMOTE_WAIT,
            last_error=self.questions.why(self.listed.config),
            errors=self.questions.errors(self.listed.config),
        )
        self._keep(moment, self.timers.duration)

    def _keep(self, moment: Moment, test_in: float) -> None:
        if self.phase is not Phase.KEEPING:
            self.since = moment.now
        self.phase = Phase.KEEPING
        self._failures = 0
        self._test_at = moment.monotonic + test_in
        if self.listed.current == 0 or not self.timers.better:
            self._better_at = None
        elif self._better_at is None:
            self._better_at = moment.monotonic + self.timers.better

    def _count_failure(self, moment: Moment) -> None:
        """Of one that worked, or is parked at: the first time proves nothing."""
        self._failures += 1
        self.listed.note(
            last_error=self.questions.why(self.listed.config),
            errors=self.questions.errors(self.listed.config),
        )
        _LOG.warning("%s", self.questions.why(self.listed.config))
        self._test_at = moment.monotonic + self.timers.interval
        if self.phase is Phase.KEEPING and self._failures >= FAILURES:
            self._try(self.listed.current, moment)

    def _fail(self, state: PortConfigState, why: str, moment: Moment) -> None:
        self.listed.note(
            state=state,
            last_failed=moment.now,
            last_error=why,
            errors=self.questions.errors(self.listed.config),
        )
        _LOG.error("the port config of %s failed: %s", self.listed.config.source, why)
        index = listing.next_index(self.listed.entries, self.listed.current, moment.now)
        if index is not None:
            self._try(index, moment)
            return
        self._park(moment)

    def _park(self, moment: Moment) -> None:
        index = listing.parking_index(self.listed.entries)
        self._use(index)
        self.phase = Phase.PARKED
        self.since = moment.now
        self._failures = 0
        self.questions.abandon()
        self._test_at = moment.monotonic + ASK_AGAIN
        self._better_at = moment.monotonic + listing.RECENT
        source = self.listed.config.source
        _LOG.error("no port config works; waiting with that of %s", source)

    def _use(self, index: int) -> None:
        """What is known of a port is known of it in one config."""
        if index != self.listed.current:
            self.questions.findings = {}
        self.listed.current = index

    def _keep_last_resort(self, moment: Moment) -> None:
        """At hand until a config of the controller's has worked; it follows what there is."""
        interfaces, present = self.questions.interfaces, self.listed.last_resort
        needed = not self.listed.sure or self.any_ethernet
        if not interfaces or not (needed or present):
            return
        config = last_resort(interfaces)
        if present is None:
            self.offer(config, moment)
        elif present.config.ports != config.ports:
            self.listed.change(present, config)
