"""When a service is started, killed and started again. Decides; never touches a process.

Time comes in as `now`, monotonic seconds. Whoever drives it tells what happened (`started`,
`exited`, `beat`) and does what `actions` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace


class Limits(msgspec.Struct, frozen=True):
    """Seconds.

    hang    without a heartbeat, until a service counts as hung.
    dump    that a hung service gets to write down where it is.
    grace   from asking a service to end until it is killed.
    first   to wait before a service that ended is started again; doubles up to `cap`.
    steady  that a service has to run for its next end to count as its first.
    window  in which hangs are counted.

    Counts, after which a restart of the service has not helped and the node restarts: `deaths` in
    a row, each before it was steady; `hangs` within the window.
    """

    hang: float = 500.0
    dump: float = 2.0
    grace: float = 5.0
    first: float = 0.5
    cap: float = 60.0
    steady: float = 60.0
    window: float = 3600.0
    deaths: int = 12
    hangs: int = 2


class Start(msgspec.Struct, frozen=True):
    name: str


class Ask(msgspec.Struct, frozen=True):
    """Ask a service to end: SIGTERM."""

    name: str
    pid: int


class Kill(msgspec.Struct, frozen=True):
    """SIGKILL. `why` is what its status will say."""

    name: str
    pid: int
    why: str


class Dump(msgspec.Struct, frozen=True):
    """Ask a hung service to write down where it is: SIGUSR1."""

    name: str
    pid: int


class GiveUp(msgspec.Struct, frozen=True):
    """The node is to restart. `hung`: or else it kept ending."""

    name: str
    hung: bool
    why: str


Action = Start | Ask | Kill | Dump | GiveUp


class Kept(msgspec.Struct, frozen=True):
    """How it is with one service."""

    name: str
    pid: int = 0
    """0: it does not run."""
    since: float = 0.0
    beat: float = 0.0
    starts: int = 0
    failures: int = 0
    """Ends in a row, each after less than `steady` seconds."""
    start_at: float = 0.0
    asked: float | None = None
    held: bool = False
    """Not to be started yet."""
    renewing: bool = False
    """Asked to end only to be started again."""
    killed: str = ""
    """Why we killed it, until it is gone."""
    last_exit: str = ""
    dumped: float | None = None
    """When it was asked to write down where it hangs."""
    hangs: tuple[float, ...] = ()


class Keeping(msgspec.Struct):
    limits: Limits
    services: dict[str, Kept] = msgspec.field(default_factory=dict)
    stopping: bool = False
    given_up: bool = False

    def keep(self, names: Iterable[str], now: float, held: Iterable[str] = ()) -> None:
        """`held`: those that are not started before `release`."""
        waiting = frozenset(held)
        for name in names:
            self.services[name] = Kept(name, start_at=now, held=name in waiting)

    def release(self, name: str, now: float) -> None:
        kept = self.services[name]
        if kept.held:
            self.services[name] = replace(kept, held=False, start_at=now)

    def renew(self, name: str) -> None:
        """To be ended and started again, and that is no failure."""
        kept = self.services[name]
        if kept.pid:
            self.services[name] = replace(kept, renewing=True)

    def started(self, name: str, pid: int, now: float) -> None:
        kept = self.services[name]
        self.services[name] = replace(
            kept,
            pid=pid,
            since=now,
            beat=now,
            starts=kept.starts + 1,
            asked=None,
            renewing=False,
            killed="",
            dumped=None,
        )

    def beat(self, name: str, now: float) -> None:
        """One that is being killed for its silence is past that."""
        self.services[name] = replace(self.services[name], beat=now, dumped=None)

    def exited(self, name: str, how: str, now: float) -> None:
        """`how`: in words, unless we killed it and know better."""
        kept = self.services[name]
        if kept.renewing:
            self.services[name] = replace(
                kept, pid=0, start_at=now, asked=None, renewing=False, killed=""
            )
            return
        lasted = now - kept.since
        failures = 1 if lasted >= self.limits.steady else kept.failures + 1
        pause = min(self.limits.cap, self.limits.first * 2.0 ** (failures - 1))
        self.services[name] = replace(
            kept,
            pid=0,
            failures=failures,
            start_at=now + pause,
            last_exit=kept.killed or how,
            asked=None,
            killed="",
        )

    def stop(self) -> None:
        """From now on services are ended and not started."""
        self.stopping = True

    @property
    def ended(self) -> bool:
        return self.stopping and not any(kept.pid for kept in self.services.values())

    def actions(self, now: float) -> Iterator[Action]:
        """What is due. Each is yielded once, and counts as done."""
        for kept in list(self.services.values()):
            if not self.stopping and not self.given_up:
                yield from self._give_up(kept, now)
            if kept.pid == 0:
                if not (self.stopping or kept.held) and kept.start_at <= now:
                    yield Start(kept.name)
            elif kept.killed:
                continue
            elif self.stopping or kept.renewing:
                yield from self._end(kept, now)
            elif now >= kept.beat + self.limits.hang:
                yield from self._end_hung(kept, now)

    def next(self) -> float | None:
        """When something will be due, if nothing happens before."""
        moments = [
            moment for kept in self.services.values() if (moment := self._due(kept)) is not None
        ]
        return min(moments, default=None)

    def _due(self, kept: Kept) -> float | None:
        if kept.pid == 0:
            return None if self.stopping or kept.held else kept.start_at
        if kept.killed:
            return None
        if not (self.stopping or kept.renewing):
            if kept.dumped is not None:
                return kept.dumped + self.limits.dump
            return kept.beat + self.limits.hang
        return 0.0 if kept.asked is None else kept.asked + self.limits.grace

    def _end_hung(self, kept: Kept, now: float) -> Iterator[Action]:
        if kept.dumped is None:
            self.services[kept.name] = replace(kept, dumped=now)
            yield Dump(kept.name, kept.pid)
        elif now >= kept.dumped + self.limits.dump:
            recent = [then for then in kept.hangs if then > now - self.limits.window]
            kept = replace(kept, hangs=(*recent, now))
            yield self._kill(kept, f"killed: hung, no heartbeat for {now - kept.beat:.0f} s")

    def _give_up(self, kept: Kept, now: float) -> Iterator[Action]:
        recent = [then for then in kept.hangs if then > now - self.limits.window]
        if len(recent) >= self.limits.hangs:
            why = f"{kept.name} hung {len(recent)} times within {self.limits.window:.0f} s"
            self.given_up = True
            yield GiveUp(kept.name, True, why)
        elif kept.pid == 0 and kept.failures >= self.limits.deaths:
            why = f"{kept.name} ended {kept.failures} times in a row: {kept.last_exit}"
            self.given_up = True
            yield GiveUp(kept.name, False, why)

    def _end(self, kept: Kept, now: float) -> Iterator[Action]:
        if kept.asked is None:
            self.services[kept.name] = replace(kept, asked=now)
            yield Ask(kept.name, kept.pid)
        elif now >= kept.asked + self.limits.grace:
            yield self._kill(kept, f"killed: did not end in {self.limits.grace:.0f} s")

    def _kill(self, kept: Kept, why: str) -> Kill:
        self.services[kept.name] = replace(kept, killed=why)
        return Kill(kept.name, kept.pid, why)
