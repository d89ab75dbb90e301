"""In the place of the agent: wants one port config after the other, and says what came of each."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.model import kinds
from edgevirt.model.node import Property
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Dhcp,
    PortConfig,
    PortConfigList,
    PortConfigState,
    PortSettings,
    PortSource,
)
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Put
from edgevirt.runtime.store import release

ROUTER: Final = "192.0.2.1"
GOOD: Final = PortSettings(
    name="wan", ifname="eth0", dhcp=Dhcp.STATIC, address="192.0.2.9/24", gateway=ROUTER,
    dns=(ROUTER,),
)  # fmt: skip
OTHER_SITE: Final = replace(
    GOOD, address="203.0.113.9/24", gateway="203.0.113.1", dns=("203.0.113.1",)
)
PROPERTIES: Final = {"timer.port.testduration": "10", "timer.port.timeout": "2"}
"""The shortest times that a controller may ask for."""
MARK: Final = "came of it: "


class Outcome(msgspec.Struct):
    status: DeviceNetworkStatus
    configs: PortConfigList


async def run(context: Context) -> None:
    store = context.store
    for name, value in PROPERTIES.items():
        await store.put(kinds.PROPERTY, name, Property(value=value))
    await release(store, SERVICE.owns)
    await _tell(context, PortSource.LAST_RESORT, 0)
    await _want(context, GOOD, 1.0)
    await _tell(context, PortSource.CONTROLLER, 0)
    await _want(context, OTHER_SITE, 2.0)
    await _tell(context, PortSource.CONTROLLER, 1)
    await asyncio.Event().wait()


async def _want(context: Context, port: PortSettings, at: float) -> None:
    config = PortConfig(source=PortSource.CONTROLLER, priority=at, ports=(port,))
    await context.store.put(kinds.PORT_CONFIG, config.source, config)


async def _tell(context: Context, source: PortSource, index: int) -> None:
    """When the node has settled with that config."""
    async for event in context.store.watch(kinds.DEVICE_NETWORK_STATUS):
        if not isinstance(event, Put):
            continue
        status = event.resource.value
        reached = status.state is PortConfigState.SUCCESS and not status.testing
        if reached and (status.source, status.index) == (source, index):
            break
    async for listed in context.store.watch(kinds.PORT_CONFIG_LIST):
        if isinstance(listed, Put) and listed.resource.value.current == index:
            outcome = Outcome(status, listed.resource.value)
            print(MARK + msgspec.json.encode(outcome).decode(), flush=True)
            return


SERVICE = Service(
    name="agent",
    reads=(kinds.DEVICE_NETWORK_STATUS, kinds.PORT_CONFIG_LIST),
    owns=(kinds.PORT_CONFIG, kinds.PROPERTY),
    run=run,
)
