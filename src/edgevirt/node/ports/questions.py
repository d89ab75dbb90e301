"""By which ports the controller is asked, the cheapest first, and what is known of each. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.probe import Finding
from edgevirt.model.ports import PortConfig, PortSettings, Reach
from edgevirt.node.ports.readiness import DEFINITE, TEMPORARY, candidates, obstacle, sentence
from edgevirt.node.ports.steps import Test

_HINDERED = (Reach.NO_LINK, Reach.NO_ADDRESS)


class Questions:
    """Of one config at a time, which the keeper names.

    `findings`: by port of it, what is known since it is in use. `interfaces`: the machine's.
    """

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}
        self.interfaces: Mapping[str, Interface] = {}
        self._turn = 0
        self._groups: list[list[PortSettings]] = []

    def begin(self, config: PortConfig) -> bool:
        """Ports of one cost are asked side by side, the cheapest first. False: there are none."""
        testable = self.look(config)
        costs = sorted({port.cost for port in testable})
        self._groups = [[port for port in testable if port.cost == cost] for cost in costs]
        return bool(self._groups)

    def next(self) -> Test | None:
        """The next ones to ask by; None: no more."""
        return Test(tuple(self._groups.pop(0)), self._turn) if self._groups else None

    def abandon(self) -> None:
        """Answers to what was asked are of no interest any more."""
        self._groups.clear()
        self._turn += 1

    def hear(self, turn: int, findings: Mapping[str, Finding]) -> bool | None:
        """Whether the controller can be reached; None: that is not decided yet, or the answers are
        to a question of before."""
        if turn != self._turn:
            return None
        self.findings.update(findings)
        good = any(finding.reach is Reach.OK for finding in findings.values())
        if self._groups and not good:
            return None  # the costlier ports come next
        self.abandon()
        return good

    def look(self, config: PortConfig) -> list[PortSettings]:
        """Ports by which the controller can be asked; what hinders the others is noted."""
        testable = []
        for port in candidates(config):
            hindrance = obstacle(port, self.interfaces)
            if hindrance is None:
                testable.append(port)
                known = self.findings.get(port.name)
                if known is not None and known.reach in _HINDERED:
                    del self.findings[port.name]
            else:
                self.findings[port.name] = hindrance
        return testable

    # -- what is known ----------------------------------------------------------------------------

    def has_interface(self, config: PortConfig) -> bool:
        """Of any port that counts."""
        return any(port.ifname in self.interfaces for port in candidates(config))

    def is_waiting(self, config: PortConfig) -> bool:
        """Whether a port may still get a link or an address."""
        return any(reach in _HINDERED for reach in self._reaches(config))

    def is_hopeless(self, config: PortConfig) -> bool:
        """Whether asking again by any of its ports changes nothing."""
        reaches = self._reaches(config)
        known = bool(reaches) and len(reaches) == len(candidates(config))
        return known and all(reach in DEFINITE for reach in reaches)

    def will_pass(self, config: PortConfig) -> bool:
        """Whether it is the controller that cannot answer for a while."""
        return any(reach in TEMPORARY for reach in self._reaches(config))

    def errors(self, config: PortConfig) -> tuple[tuple[str, str], ...]:
        found = {name: self.findings[name].why for name in self._asked(config)}
        return tuple((name, why) for name, why in found.items() if why)

    def why(self, config: PortConfig) -> str:
        """None of its ports works."""
        troubles = [port.trouble for port in config.ports if port.trouble]
        if not candidates(config):
            return "; ".join(troubles) or "cannot reach the controller: no port is for management"
        return sentence({name: self.findings[name] for name in self._asked(config)})

    def differ(self, config: PortConfig, before: Mapping[str, Interface]) -> bool:
        """Whether anything changed by which the controller may be reached, or not any more."""
        return any(
            _shape(before.get(port.ifname)) != _shape(self.interfaces.get(port.ifname))
            for port in candidates(config)
        )

    def _reaches(self, config: PortConfig) -> list[Reach]:
        return [self.findings[name].reach for name in self._asked(config)]

    def _asked(self, config: PortConfig) -> Iterable[str]:
        return (port.name for port in candidates(config) if port.name in self.findings)


def _shape(found: Interface | None) -> object:
    return found and (found.up, found.addresses, found.routers, found.dns)
