"""The ports service: who brings port configs, and the loop that keeps the best one in use."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from edgevirt.host.net.names import Names
from edgevirt.host.net.ports import AdoptedPorts, LinuxPorts, Ports, PortsError
from edgevirt.host.net.probe import HttpsProber
from edgevirt.model.kinds import (
    DEVICE_NETWORK_STATUS,
    GIVEN_PROPERTIES,
    PORT_CONFIG,
    PORT_CONFIG_LIST,
    PORT_OVERRIDE,
    PROPERTY,
)
from edgevirt.model.node import GivenProperties
from edgevirt.model.ports import PortConfigList, PortSource
from edgevirt.node.ports.given import read_given, remember_bootstrap
from edgevirt.node.ports.keeper import Keeper
from edgevirt.node.ports.loop import Loop
from edgevirt.node.ports.steps import Moment, Timers
from edgevirt.node.properties import DEFAULTS
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Put, release

_LOG: Final = logging.getLogger("edgevirt.ports")
_AGAIN: Final = 5.0
_ANY_ETHERNET: Final = "network.fallback.any.eth"


async def serve(context: Context) -> None:
    known = await context.store.get(PORT_CONFIG_LIST, "node")
    await release(context.store, SERVICE.owns)
    ports = _machine_ports(context)
    prober = _prober(context)
    moment = Moment(context.clock.now(), context.clock.monotonic())
    keeper = Keeper(known.value if known else PortConfigList(), moment)
    loop = Loop(context.store, context.clock, ports, prober, keeper)
    try:
        await _prepare(context, ports)
        await _offer_given(context, loop)
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow_controller(context, loop))
            group.create_task(_follow_visitors(context, loop))
            group.create_task(_follow_properties(context, loop))
            group.create_task(loop.run())
    finally:
        prober.close()
        await ports.close()


def _machine_ports(context: Context) -> Ports:
    """In host mode the ports are what the launcher made."""
    paths = context.paths
    names = Names(paths.names, paths.hosts)
    return AdoptedPorts(names) if context.settings.host_mode else LinuxPorts(paths.ports, names)


def _prober(context: Context) -> HttpsProber:
    paths = context.paths
    try:
        server = paths.server.read_text(errors="replace").strip()
    except OSError as error:
        _LOG.error("cannot read which server the controller is: %s", error)
        server = ""
    return HttpsProber(server, (paths.root_certificate, paths.tls_roots))


async def _prepare(context: Context, ports: Ports) -> None:
    while True:
        try:
            return await ports.prepare()
        except PortsError as error:
            _LOG.error("%s; again in %.0f s", error, _AGAIN)
            await context.clock.sleep(_AGAIN)


async def _offer_given(context: Context, loop: Loop) -> None:
    """Files of the node's config, before anything is tried."""
    given = read_given(context.paths, context.clock.now())
    loop.bootstrap_error = given.error
    loop.keeper.timers = timers(dict(given.properties))
    if given.properties:
        await context.store.put(GIVEN_PROPERTIES, "node", GivenProperties(items=given.properties))
    for config in given.configs:
        loop.take_in(config)
    if any(config.source is PortSource.BOOTSTRAP for config in given.configs):
        await context.store.put(PORT_CONFIG_LIST, "node", loop.keeper.kept)
        remember_bootstrap(context.paths)


async def _follow_controller(context: Context, loop: Loop) -> None:
    """What the controller wanted stays in the list when it is withdrawn: nobody wants no ports."""
    async for event in context.store.watch(PORT_CONFIG):
        if isinstance(event, Put):
            loop.offer(event.resource.value)


async def _follow_visitors(context: Context, loop: Loop) -> None:
    """What a stick brought; beside a bootstrap config it counts for nothing (as in EVE)."""
    async for event in context.store.watch(PORT_OVERRIDE):
        if not isinstance(event, Put):
            continue
        if context.paths.bootstrap_config.exists():
            _LOG.warning("a port config that was brought is not used: there is a bootstrap config")
        else:
            loop.offer(event.resource.value)


async def _follow_properties(context: Context, loop: Loop) -> None:
    applied: dict[str, str] = {}
    async for event in context.store.watch(PROPERTY):
        if isinstance(event, Put) and event.resource.key in DEFAULTS:
            applied[event.resource.key] = event.resource.value.value
            loop.keeper.timers = timers(applied)
            loop.keeper.any_ethernet = applied.get(_ANY_ETHERNET) == "enabled"
            loop.wake.set()


def timers(applied: dict[str, str]) -> Timers:
    """From the properties as they apply; the agent judged their bounds."""

    def seconds(name: str) -> float:
        value = applied.get(name, "")
        return float(value if value.isdecimal() else DEFAULTS[name])

    return Timers(
        duration=seconds("timer.port.testduration"),
        interval=seconds("timer.port.testinterval"),
        better=seconds("timer.port.testbetterinterval"),
        timeout=seconds("timer.port.timeout"),
    )


SERVICE = Service(
    name="ports",
    reads=(PORT_CONFIG, PORT_OVERRIDE, PROPERTY),
    owns=(DEVICE_NETWORK_STATUS, GIVEN_PROPERTIES, PORT_CONFIG_LIST),
    run=serve,
)
