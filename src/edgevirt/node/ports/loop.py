"""Carries out what the keeper says, on the machine, and tells it what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.ports import Ports, PortsError
from edgevirt.host.net.probe import Finding, Prober
from edgevirt.model.kinds import DEVICE_NETWORK_STATUS, PORT_CONFIG_LIST
from edgevirt.model.ports import PortConfig, Reach
from edgevirt.node.ports.keeper import Keeper
from edgevirt.node.ports.status_report import Times, setups, status
from edgevirt.node.ports.steps import Apply, Moment, Test
from edgevirt.runtime import Clock, Store

_LOG: Final = logging.getLogger("edgevirt.ports")
_AGAIN: Final = 2.0
_TRIES: Final = 3
"""A set-up that fails so often is a config that fails."""


class Loop(msgspec.Struct):
    """`offers` and `wake` are for who brings port configs and new timers."""

    store: Store
    clock: Clock
    ports: Ports
    prober: Prober
    keeper: Keeper
    offers: list[PortConfig] = msgspec.field(default_factory=list)
    wake: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    interfaces: Mapping[str, Interface] = msgspec.field(default_factory=dict)
    bootstrap_error: str = ""
    _times: dict[str, Times] = msgspec.field(default_factory=dict)
    _failures: int = 0

    def offer(self, config: PortConfig) -> None:
        self.offers.append(config)
        self.wake.set()

    def take_in(self, config: PortConfig) -> None:
        """Before the loop runs."""
        self.keeper.offer(config, self._moment())

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_machine())
            group.create_task(self._keep())

    async def _watch_machine(self) -> None:
        while True:
            await self.ports.changed()
            self.wake.set()

    async def _keep(self) -> None:
        while True:
            self.wake.clear()
            try:
                await self._look()
                step = self.keeper.next(self._moment())
                await self._publish()
                if isinstance(step, Apply):
                    await self._apply(step.config)
                elif isinstance(step, Test):
                    await self._test(step)
                else:
                    await self._wait(step.seconds)
            except PortsError as error:
                _LOG.error("%s; again in %.0f s", error, _AGAIN)
                await self.clock.sleep(_AGAIN)

    def _moment(self) -> Moment:
        return Moment(self.clock.now(), self.clock.monotonic())

    async def _look(self) -> None:
        self.interfaces = await self.ports.interfaces()
        moment = self._moment()
        offers, self.offers = self.offers, []
        for config in offers:
            self.keeper.offer(config, moment)
        self.keeper.see(self.interfaces, moment)

    async def _apply(self, config: PortConfig) -> None:
        try:
            await self.ports.apply(setups(config))
        except PortsError as error:
            self._failures += 1
            if self._failures < _TRIES:
                raise
            self.keeper.refused(str(error), self._moment())
        else:
            self.keeper.applied()
        self._failures = 0

    async def _test(self, test: Test) -> None:
        timeout = self.keeper.timers.timeout
        asked = [
            self.prober.ping(port.ifname, self.interfaces[port.ifname].dns, timeout)
            for port in test.ports
        ]
        answers = await asyncio.gather(*asked)
        findings = {port.name: answer for port, answer in zip(test.ports, answers, strict=True)}
        self._stamp(findings)
        self.keeper.tested(test.turn, findings, self._moment())

    def _stamp(self, findings: Mapping[str, Finding]) -> None:
        now = self.clock.now()
        for name, finding in findings.items():
            before = self._times.get(name, Times())
            if finding.reach is Reach.OK:
                self._times[name] = Times(before.failed, now)
            else:
                self._times[name] = Times(now, before.succeeded)

    async def _wait(self, seconds: float | None) -> None:
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.wake.wait())]
        if seconds is not None:
            waits.append(asyncio.create_task(self._sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    async def _publish(self) -> None:
        """The store leaves alone what is as it was."""
        await self.store.put(PORT_CONFIG_LIST, "node", self.keeper.kept)
        told = status(self.keeper, self.interfaces, self._times)
        told = replace(told, bootstrap_error=self.bootstrap_error)
        await self.store.put(DEVICE_NETWORK_STATUS, "node", told)
