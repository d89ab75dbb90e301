"""The console service: gathers what is known, shows it on every change, and blinks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edgevirt import __version__
from edgevirt.host.disk.sticks import MtoolsSticks, Sticks
from edgevirt.host.light import Light, NoLight, light_of_the_machine
from edgevirt.host.screen import FileScreen, Screen, screens_of_the_machine
from edgevirt.model import kinds
from edgevirt.model.ports import Led, LedStatus, PortConfigList
from edgevirt.node.console.led import MEANINGS, choose_led
from edgevirt.node.console.report import Facts, report
from edgevirt.node.console.visits import POLL, Visits, identity_files
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Clock, Gone, InStep, Kind, Put, Store, release

CALM: Final = 0.5
"""Seconds: news come in flocks."""
_ON: Final = 0.2
_OFF: Final = 0.2
_GAP: Final = 1.2
"""Seconds of one blink, and between two rows of them (EVE's)."""
_READ: Final[tuple[Kind[Any], ...]] = (
    kinds.IDENTITY,
    kinds.AGENT_STATUS,
    kinds.DEVICE_NETWORK_STATUS,
    kinds.PORT_CONFIG_LIST,
    kinds.SLOT,
    kinds.APP_INSTANCE_STATUS,
)


_TAKEN_ALONG: Final = (kinds.AGENT_STATUS, kinds.DEVICE_NETWORK_STATUS, kinds.PORT_CONFIG_LIST)


class Console:
    """`screens` show the diagnosis; `light` blinks."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        screens: Sequence[Screen],
        light: Light,
        base: Facts,
        sticks: Sticks | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._screens = screens
        self._light = light
        self._base = base
        self._tables: dict[str, dict[str, Any]] = {kind.name: {} for kind in _READ}
        self._news = asyncio.Event()
        self._news.set()
        self._led = LedStatus(led=Led.UNKNOWN)
        self.shown: list[str] = []
        self._visits: Visits | None = None
        if sticks is not None:
            self._visits = Visits(sticks, self._public, self._diagnosis, self._serial)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            for kind in _READ:
                group.create_task(self._follow(kind))
            group.create_task(self._show())
            group.create_task(self._blink())
            group.create_task(self._receive_visits())

    async def _follow(self, kind: Kind[Any]) -> None:
        table = self._tables[kind.name]
        async for event in self._store.watch(kind):
            if isinstance(event, InStep):
                continue
            if isinstance(event, Put):
                table[event.resource.key] = event.resource.value
            elif isinstance(event, Gone):
                table.pop(event.resource.key, None)
            self._news.set()

    async def _show(self) -> None:
        while True:
            await self._news.wait()
            await self._clock.sleep(CALM)
            self._news.clear()
            facts = self._facts()
            await self._tell(facts.led)
            lines = report(facts)
            if lines != self.shown:
                self.shown = lines
                for screen in self._screens:
                    screen.show(lines)

    async def _tell(self, led: Led) -> None:
        if led is not self._led.led or not self._led.since:
            self._led = LedStatus(led=led, meaning=MEANINGS[led], since=self._clock.now())
            await self._store.put(kinds.LED_STATUS, "node", self._led)

    def _facts(self) -> Facts:
        def one(kind: Kind[Any], key: str) -> Any:
            return self._tables[kind.name].get(key)

        network, agent = one(kinds.DEVICE_NETWORK_STATUS, "node"), one(kinds.AGENT_STATUS, "node")
        return Facts(
            version=self._base.version,
            slot=self._base.slot,
            server=self._base.server,
            serial=self._base.serial,
            led=choose_led(network, agent),
            identity=one(kinds.IDENTITY, "node"),
            agent=agent,
            network=network,
            configs=one(kinds.PORT_CONFIG_LIST, "node") or PortConfigList(),
            slots=self._tables[kinds.SLOT.name],
            apps=self._tables[kinds.APP_INSTANCE_STATUS.name],
        )

    async def _receive_visits(self) -> None:
        while self._visits is not None:
            for config in await self._visits.look(self._clock.now()):
                await self._store.put(kinds.PORT_OVERRIDE, config.source, config)
            await self._clock.sleep(POLL)

    def _public(self) -> dict[str, bytes]:
        facts = self._facts()
        return identity_files(facts.identity, facts.agent)

    def _serial(self) -> str:
        facts = self._facts()
        return (facts.identity.serial if facts.identity else "") or facts.serial

    def _diagnosis(self) -> dict[str, bytes]:
        """The report, and the statuses behind it."""
        files = {"diagnosis.txt": "\n".join([*self.shown, ""]).encode()}
        for kind in _TAKEN_ALONG:
            values = self._tables[kind.name]
            files[f"{kind.name}.json"] = msgspec.json.encode(values)
        return files

    async def _blink(self) -> None:
        if isinstance(self._light, NoLight):
            return
        while True:
            for _ in range(int(self._led.led)):
                self._light.shine(True)
                await self._clock.sleep(_ON)
                self._light.shine(False)
                await self._clock.sleep(_OFF)
            await self._clock.sleep(_GAP)


async def serve(context: Context) -> None:
    await release(context.store, SERVICE.owns)
    paths, settings = context.paths, context.settings
    screens: list[Screen] = [FileScreen(paths.diagnosis)]
    light: Light = NoLight()
    sticks: Sticks | None = None
    if not settings.host_mode:
        screens += screens_of_the_machine()
        light = light_of_the_machine()
        sticks = MtoolsSticks(Path("/sys/class/block"), paths.devices)
    base = Facts(
        version=settings.version or __version__,
        slot=settings.slot,
        server=_server(context),
        serial=settings.serial,
    )
    await Console(context.store, context.clock, screens, light, base, sticks).run()


def _server(context: Context) -> str:
    try:
        return context.paths.server.read_text(errors="replace").strip()
    except OSError:
        return ""


SERVICE = Service(
    name="console", reads=_READ, owns=(kinds.LED_STATUS, kinds.PORT_OVERRIDE), run=serve
)
