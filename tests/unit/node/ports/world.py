"""A machine, its cables and its controller, for the ports service in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from edgevirt.host.fakes.ports import Cable, FakePorts
from edgevirt.host.fakes.prober import FakeProber
from edgevirt.host.net.lease import Lease
from edgevirt.host.net.probe import Finding
from edgevirt.model.kinds import DEVICE_NETWORK_STATUS, PORT_CONFIG_LIST
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Dhcp,
    PortConfig,
    PortConfigList,
    PortSettings,
    PortSource,
    Reach,
)
from edgevirt.node.ports.keeper import Keeper
from edgevirt.node.ports.loop import Loop
from edgevirt.node.ports.steps import Moment, Timers
from edgevirt.runtime.clock import VirtualClock
from edgevirt.runtime.memory import MemoryStore

START = 1_700_000_000.0
OK = Finding(Reach.OK)
SILENCE = Finding(Reach.NO_ROUTE, "controller.example does not answer")
REFUSED = Finding(Reach.REFUSED, "controller.example refuses connections")
EXPIRED = Finding(Reach.CERTIFICATE_TIME, "the certificate is not valid")
WRONG_ROOT = Finding(Reach.WRONG_ROOT, "the certificate does not lead to the root")


def leased(number: int = 2) -> Cable:
    return Cable(lease=Lease(f"192.0.2.{number}/24", "192.0.2.1", ("192.0.2.53",)))


def by_dhcp(
    *interfaces: str, source: PortSource = PortSource.CONTROLLER, at: float = START
) -> PortConfig:
    ports = tuple(PortSettings(name=name, ifname=name) for name in interfaces)
    return PortConfig(source=source, priority=at, ports=ports)


def static(
    address: str, source: PortSource = PortSource.CONTROLLER, at: float = START
) -> PortConfig:
    port = PortSettings(
        name="eth0", ifname="eth0", dhcp=Dhcp.STATIC, address=f"{address}/24",
        gateway="192.0.2.1", dns=("192.0.2.53",),
    )  # fmt: skip
    return PortConfig(source=source, priority=at, ports=(port,))


@dataclass
class World:
    """`reaches`: what the controller says by an interface that has an address."""

    ports: FakePorts
    prober: FakeProber
    clock: VirtualClock
    store: MemoryStore
    loop: Loop

    def answers(self, answer: Callable[[str, Sequence[str]], Finding] | Finding) -> None:
        self.prober.answer = (lambda *_: answer) if isinstance(answer, Finding) else answer

    def works_with(self, *addresses: str) -> None:
        """The controller is there for whoever has one of these addresses, and silent for others."""

        def answer(interface: str, dns: Sequence[str]) -> Finding:
            setup = self.ports.wanted[interface]
            lease = self.ports.cables[interface].lease
            address = lease.address if setup.dhcp and lease else setup.address
            return OK if address.partition("/")[0] in addresses else SILENCE

        self.prober.answer = answer

    async def status(self) -> DeviceNetworkStatus:
        found = await self.store.get(DEVICE_NETWORK_STATUS, "node")
        assert found is not None
        return found.value

    async def kept(self) -> PortConfigList:
        found = await self.store.get(PORT_CONFIG_LIST, "node")
        assert found is not None
        return found.value

    async def sources(self) -> list[str]:
        return [entry.config.source.value for entry in (await self.kept()).entries]

    async def offer(self, config: PortConfig, seconds: float = 0.0) -> None:
        self.loop.offer(config)
        await self.clock.advance(seconds)


@contextlib.asynccontextmanager
async def world(
    cables: dict[str, Cable] | None = None,
    kept: PortConfigList | None = None,
    timers: Timers | None = None,
) -> AsyncIterator[World]:
    clock = VirtualClock(START)
    ports = FakePorts({"eth0": leased()} if cables is None else cables)
    store, prober = MemoryStore(), FakeProber()
    moment = Moment(clock.now(), clock.monotonic())
    keeper = Keeper(kept or PortConfigList(), moment, timers)
    loop = Loop(store, clock, ports, prober, keeper)
    made = World(ports, prober, clock, store, loop)
    running = asyncio.create_task(loop.run())
    try:
        await clock.settle()
        yield made
        if running.done():
            running.result()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
