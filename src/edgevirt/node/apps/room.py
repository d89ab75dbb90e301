"""What the apps hold: memory, processors of their own, and volumes. Pure."""

from __future__ import annotations

from itertools import chain

from edgevirt.model.app import AppInstance
from edgevirt.model.domain import Domain


class Room:
    """The apps are asked one after the other; each sees what the ones before took.

    `memory`: bytes, for all apps. `cores`: the processors that may be given away, by core. A core
    is given whole: what shares it would be heard.
    """

    def __init__(self, memory: int, cores: tuple[tuple[int, ...], ...] = ()) -> None:
        self.memory = memory
        self._cores = cores
        self._held: dict[str, Domain] = {}

    def hold(self, app: str, domain: Domain | None) -> None:
        """`domain` None: the app holds nothing."""
        self._held.pop(app, None)
        if domain is not None:
            self._held[app] = domain

    def memory_left(self, app: str) -> int:
        """Bytes that the app may have, its own included."""
        others = (domain for key, domain in self._held.items() if key != app)
        return self.memory - sum((d.memory_kib + d.overhead_kib) * 1024 for d in others)

    def processors_left(self, app: str) -> int:
        """How many the app may have, its own included."""
        return sum(map(len, self._cores_for(app)))

    def processors_for(self, app: AppInstance) -> tuple[int, ...]:
        """Empty: it shares. There are enough: see `gates.check_processors`."""
        wanted = app.resources.vcpus if app.resources.dedicated else 0
        given: list[int] = []
        for core in self._cores_for(app.id):
            if len(given) < wanted:
                given.extend(core)
        return tuple(given)

    def _cores_for(self, app: str) -> list[tuple[int, ...]]:
        """Those that it has come first, so that it keeps them."""
        held = {key: set(domain.cpus) for key, domain in self._held.items()}
        own = held.pop(app, set())
        taken = set(chain.from_iterable(held.values()))
        free = [core for core in self._cores if not taken & set(core)]
        return sorted(free, key=lambda core: not own & set(core))

    def user_of(self, path: str, app: str) -> str:
        """Name of another app that has this volume; empty: none has."""
        for key, domain in self._held.items():
            if key != app and any(volume.path == path for volume in domain.volumes):
                return domain.display_name
        return ""

    def holders(self) -> tuple[str, ...]:
        """Names of the apps that have processors of their own."""
        return tuple(sorted(d.display_name for d in self._held.values() if d.cpus))
