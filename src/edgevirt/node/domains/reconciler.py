"""Makes the domains of this machine match what apps wants to run."""

from __future__ import annotations

import base64
import binascii
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edgevirt.host.hypervisor import DomainInfo, Hypervisor, HypervisorError, UnfitError
from edgevirt.model.app import AppSecret
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.domain import DiskStatus, Domain, DomainStatus
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import (
    APP_SECRET,
    DOMAIN,
    DOMAIN_EXIT,
    DOMAIN_STATUS,
    MACHINE_DEVICES,
    PROPERTY,
)
from edgevirt.node.domains.endings import is_machine, is_machine_lost, why_ended
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.restarts import Restarts
from edgevirt.node.domains.teller import Teller
from edgevirt.node.properties import number
from edgevirt.runtime import Clock, Inputs, Kind, Refuse, Report, Retry

GRACEFUL_SECONDS = 60.0
FORCED_SECONDS = 600.0
POLL_SECONDS = 30.0
"""EVE's; an end is normally noticed at once."""
BOOT_RETRY = "timer.boot.retry"
_NOT_BY_ITSELF = "not tried again by itself: change the app, or restart it"


class DomainReconciler:
    """A domain with the wanted name and generation that runs is left alone, whoever started it."""

    name = "domains"
    spec = DOMAIN
    status = DOMAIN_STATUS
    reads: tuple[Kind[Any], ...] = (APP_SECRET, PROPERTY, DOMAIN_EXIT, MACHINE_DEVICES)
    recheck: float | None = POLL_SECONDS

    def __init__(
        self,
        hypervisors: Sequence[Hypervisor],
        exits: ExitWatch,
        clock: Clock,
        kept: Sequence[tuple[Path, str]],
    ) -> None:
        """`kept`: where adapters keep what outlives a domain but not its app: a directory, and
        what the names of files or directories there have behind the app's id.
        """
        self._kept = kept
        self._hypervisors = hypervisors
        self._exits = exits
        self._clock = clock
        self._restarts: dict[AppId, Restarts] = {}

    async def existing(self) -> Iterable[str]:
        try:
            return [info.app for adapter in self._hypervisors for info in await adapter.list()]
        except HypervisorError as failure:
            raise Retry(str(failure)) from failure

    async def reconcile(
        self, key: str, spec: Domain | None, inputs: Inputs, report: Report[Any]
    ) -> DomainStatus | None:
        app = AppId(key)
        before = inputs.get(DOMAIN_STATUS, key)
        if spec is None:
            await self._remove(app, before, report)
            return None
        teller = Teller(app, spec.name, spec.generation, before, self._clock)
        self._remember(app, before)
        try:
            if not spec.activate:
                return await self._halt(app, teller, report)
            return await self._run(app, spec, inputs, teller, report)
        except UnfitError as failure:
            trouble = Trouble(why=str(failure), since=self._clock.now(), hint=_NOT_BY_ITSELF)
            await report(teller.status(SwState.BROKEN, self._history(app, spec), trouble))
            raise Refuse(str(failure)) from failure
        except HypervisorError as failure:
            history = self._history(app, spec).not_started(
                str(failure), cap=number(inputs, BOOT_RETRY), **self._time()
            )
            self._restarts[app] = history
            raise await self._later(history, SwState.HALTED, teller, report) from failure

    async def _run(
        self, app: AppId, spec: Domain, inputs: Inputs, teller: Teller, report: Report[Any]
    ) -> DomainStatus:
        state = SwState.HALTED
        found = await self._find(app)
        if found is not None:
            adapter, info = found
            wanted = (info.name, info.generation) == (spec.name, spec.generation)
            if wanted and info.state == SwState.RUNNING:
                lacking = await self._attend(adapter, spec)
                return await self._running(adapter, info, spec, teller, inputs, lacking)
            if wanted and is_machine_lost(spec, info):
                teller.ended(info)
                raise await self._give_up(app, spec, info, teller, report)
            if wanted and info.state in (SwState.HALTED, SwState.BROKEN):
                state = info.state
                self._count_crash(app, spec, info, inputs)
                teller.ended(info)
            else:
                await self._stop(adapter, info, teller, report)
            await adapter.delete(app)
        history = self._history(app, spec)
        if self._clock.monotonic() < history.not_before:
            raise await self._later(history, state, teller, report)
        return await self._start(app, spec, inputs, teller, report)

    async def _give_up(
        self, app: AppId, spec: Domain, info: DomainInfo, teller: Teller, report: Report[Any]
    ) -> Refuse:
        """A virtual machine that was killed or crashed stays down, as EVE has it."""
        why, hint = why_ended(info, spec), "restart the app to try again"
        trouble = Trouble(why=why, since=self._clock.now(), hint=hint)
        await report(teller.status(SwState.BROKEN, self._history(app, spec), trouble))
        return Refuse(why)

    async def _start(
        self, app: AppId, spec: Domain, inputs: Inputs, teller: Teller, report: Report[Any]
    ) -> DomainStatus:
        adapter = self._adapter(spec)
        history = self._history(app, spec)
        encoded = spec.user_data
        if spec.has_secret:
            secret = inputs.get(APP_SECRET, app)
            if secret is None or secret.why:
                return teller.status(SwState.HALTED, history, self._without(secret))
            encoded = secret.user_data
        await report(teller.status(SwState.BOOTING, history))
        try:
            await adapter.create(spec, decode_user_data(encoded))
            info = await adapter.start(app)
        except HypervisorError:
            with suppress(HypervisorError):  # the first failure is the one to tell
                await adapter.delete(app)
            raise
        return await self._running(adapter, info, spec, teller, inputs)

    def _without(self, secret: AppSecret | None) -> Trouble:
        """Why there is no secret user data; its arrival wakes the reconciler."""
        now = self._clock.now()
        if secret is not None:
            return Trouble(why=secret.why, since=now)
        why = "cannot start: its secret user data isn't decrypted yet"
        return Trouble(why=why, since=now, severity=Severity.NOTICE)

    async def _running(
        self,
        adapter: Hypervisor,
        info: DomainInfo,
        spec: Domain,
        teller: Teller,
        inputs: Inputs,
        lacking: str = "",
    ) -> DomainStatus:
        self._exits.watch(adapter, info.app, info.pid)
        disks = await self._grow(adapter, spec)
        history, now = self._history(info.app, spec), self._clock.now()
        ran = now - info.started if info.started else 0.0
        remark = history.remark(now, ran=ran, cap=number(inputs, BOOT_RETRY))
        if remark is None and info.remark:
            remark = Trouble(why=info.remark, since=info.started, severity=Severity.NOTICE)
        if lacking:
            hint = "plug it in"
            remark = Trouble(why=lacking, since=now, severity=Severity.WARNING, hint=hint)
        status = teller.status(SwState.RUNNING, history, remark, info=info)
        display = spec.vnc.display if spec.vnc is not None else None
        return msgspec.structs.replace(status, vnc_display=display, disks=disks)

    async def _grow(self, adapter: Hypervisor, spec: Domain) -> tuple[DiskStatus, ...]:
        """What its disks have that are to have some size: tried again at the next look."""
        if not any(volume.size for volume in spec.volumes):
            return ()
        try:
            return await adapter.grow(spec)
        except HypervisorError as failure:
            wanted = (volume for volume in spec.volumes if volume.size)
            return tuple(DiskStatus(path=one.path, why=str(failure)) for one in wanted)

    async def _attend(self, adapter: Hypervisor, spec: Domain) -> str:
        """What of its devices a running domain has not."""
        if not spec.devices:
            return ""
        try:
            missing = await adapter.attend(spec)
        except HypervisorError as failure:
            missing = (str(failure),)
        return f"cannot use all of its devices: {'; '.join(missing)}" if missing else ""

    async def _halt(self, app: AppId, teller: Teller, report: Report[Any]) -> DomainStatus:
        found = await self._find(app)
        if found is not None:
            adapter, info = found
            await self._stop(adapter, info, teller, report)
            await adapter.delete(app)
        self._restarts.pop(app, None)
        return teller.status(SwState.HALTED)

    async def _remove(self, app: AppId, before: DomainStatus | None, report: Report[Any]) -> None:
        try:
            found = await self._find(app)
            if found is not None:
                adapter, info = found
                teller = Teller(app, info.name, info.generation, before, self._clock)
                await self._stop(adapter, info, teller, report)
                await adapter.delete(app)
        except HypervisorError as failure:
            raise Retry(str(failure)) from failure
        self._restarts.pop(app, None)
        self._remove_kept(app)
        await self._exits.forget(app)

    def _remove_kept(self, app: AppId) -> None:
        for directory, suffix in self._kept:
            path = directory / f"{app}{suffix}"
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    async def _stop(
        self, adapter: Hypervisor, info: DomainInfo, teller: Teller, report: Report[Any]
    ) -> None:
        if info.state == SwState.RUNNING:
            await report(teller.status(SwState.HALTING, info=info))
            await adapter.stop(info.app, graceful=GRACEFUL_SECONDS, forced=FORCED_SECONDS)

    async def _later(
        self, history: Restarts, state: SwState, teller: Teller, report: Report[Any]
    ) -> Retry:
        """Tells what is being waited for; what to raise so that the engine comes back in time."""
        await report(teller.status(state, history, history.trouble(self._clock.now())))
        return Retry(history.why, max(0.0, history.not_before - self._clock.monotonic()))

    def _count_crash(self, app: AppId, spec: Domain, info: DomainInfo, inputs: Inputs) -> None:
        ran = self._clock.now() - info.started if info.started else 0.0
        self._restarts[app] = self._history(app, spec).crashed(
            why_ended(info, spec),
            ran=ran,
            cap=number(inputs, BOOT_RETRY),
            patient=is_machine(spec),
            **self._time(),
        )

    def _history(self, app: AppId, spec: Domain) -> Restarts:
        history = self._restarts.get(app)
        if history is None or history.generation != spec.generation:
            return Restarts(spec.generation)
        return history

    def _remember(self, app: AppId, before: DomainStatus | None) -> None:
        """After a restart of the service: what it had told is where it goes on."""
        if before is not None and app not in self._restarts:
            self._restarts[app] = Restarts.resumed(before, **self._time())

    def _time(self) -> dict[str, float]:
        return {"now": self._clock.now(), "monotonic": self._clock.monotonic()}

    async def _find(self, app: AppId) -> tuple[Hypervisor, DomainInfo] | None:
        for adapter in self._hypervisors:
            info = await adapter.info(app)
            if info is not None:
                return adapter, info
        return None

    def _adapter(self, spec: Domain) -> Hypervisor:
        for adapter in self._hypervisors:
            if spec.mode in adapter.modes:
                return adapter
        raise UnfitError(f"cannot run: this node has no hypervisor for mode {spec.mode.name}")


def decode_user_data(encoded: str) -> bytes:
    """Raises UnfitError, without a word of what it says."""
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as failure:
        raise UnfitError("cannot read user data: it is not base64") from failure
