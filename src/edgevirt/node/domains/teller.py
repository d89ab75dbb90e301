"""What is told of one domain, in its status."""

from __future__ import annotations

import msgspec

from edgevirt.host.hypervisor import DomainInfo
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.domain import DomainStatus
from edgevirt.model.ids import AppId
from edgevirt.node.domains.restarts import Restarts
from edgevirt.runtime import Clock


class Teller:
    """Words what is going on with one domain; `since` stays while the state does."""

    def __init__(
        self, app: AppId, name: str, generation: int, before: DomainStatus | None, clock: Clock
    ) -> None:
        self._app = app
        self._name = name
        self._generation = generation
        self._before = before
        self._clock = clock
        self._exit_code = None if before is None else before.exit_code
        self._last_start = 0.0 if before is None else before.boot_time

    def ended(self, info: DomainInfo) -> None:
        self._exit_code = None if info.exit is None else info.exit.code
        self._last_start = info.started

    def status(
        self,
        state: SwState,
        history: Restarts | None = None,
        trouble: Trouble | None = None,
        info: DomainInfo | None = None,
    ) -> DomainStatus:
        """`info`: of the process, while there is one. Of one that failed (`history`) the last start
        stays told: a run too short to be seen is known by it.
        """
        kept = 0.0 if history is None else self._last_start
        before = self._before
        same = before is not None and before.state == state
        return DomainStatus(
            app=self._app,
            name=self._name,
            state=state,
            since=before.since if before is not None and same else self._clock.now(),
            generation=self._generation,
            pid=0 if info is None else info.pid,
            boot_time=kept if info is None else info.started,
            exit_code=self._exit_code,
            crashes=0 if history is None else history.crashes,
            trouble=self._continued(trouble),
        )

    def _continued(self, trouble: Trouble | None) -> Trouble | None:
        """The same trouble as before began when it did."""
        known = None if self._before is None else self._before.trouble
        if trouble is None or known is None or trouble.why != known.why:
            return trouble
        return msgspec.structs.replace(trouble, since=known.since)
