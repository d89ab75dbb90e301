"""A controller that is reached as a test says: by interface, or else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgevirt.host.net.probe import Finding
from edgevirt.model.ports import Reach


@dataclass
class FakeProber:
    """`answer`: for an interface and its DNS servers. `asked`: interfaces, in order."""

    answer: Callable[[str, Sequence[str]], Finding] = lambda interface, dns: Finding(Reach.OK)
    asked: list[str] = field(default_factory=list)

    async def ping(self, interface: str, dns: Sequence[str], timeout: float) -> Finding:
        self.asked.append(interface)
        return self.answer(interface, dns)
