"""The networks service: its controllers, wired to the machine's network."""

from __future__ import annotations

import asyncio
import logging

from edgevirt.host.net.network import LinuxNetwork, Network, NetworkError
from edgevirt.model.kinds import (
    APP_NETWORK,
    APP_NETWORK_STATUS,
    NETWORK_INSTANCE,
    NETWORK_INSTANCE_STATUS,
    NETWORK_METRIC,
    PORT,
)
from edgevirt.node.networks.bridge_plan import BridgePlanner
from edgevirt.node.networks.filter_plan import FilterPlanner
from edgevirt.node.networks.kinds import INTERNAL
from edgevirt.node.networks.link_plan import LinkPlanner
from edgevirt.node.networks.machine_apply import (
    BridgeReconciler,
    FilterReconciler,
    GuestReconciler,
    NameServerReconciler,
)
from edgevirt.node.networks.metric_report import MetricReporter
from edgevirt.node.networks.name_server_plan import NameServerPlanner
from edgevirt.node.networks.status_plan import AppStatusPlanner, InstanceStatusPlanner
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Clock
from edgevirt.runtime.engine import Controller, run

_LOG = logging.getLogger("edgevirt.networks")
_PREPARE_AGAIN = 5.0


def controllers(network: Network, uplink: str) -> tuple[Controller, ...]:
    return (
        BridgePlanner(uplink),
        LinkPlanner(),
        FilterPlanner(),
        NameServerPlanner(),
        InstanceStatusPlanner(),
        AppStatusPlanner(),
        FilterReconciler(network),
        BridgeReconciler(network),
        NameServerReconciler(network),
        GuestReconciler(network),
    )


async def serve(context: Context) -> None:
    network = LinuxNetwork(context.paths.netns, context.paths.networks)
    try:
        await _prepare(network, context.clock)
        uplink = context.settings.uplink
        reporter = MetricReporter(context.store, context.clock, network, uplink, _LOG)
        async with asyncio.TaskGroup() as group:
            group.create_task(reporter.run(), name="networks.metrics")
            own = controllers(network, uplink)
            group.create_task(run(context.store, context.clock, own, log=_LOG))
    finally:
        await network.close()


async def _prepare(network: Network, clock: Clock) -> None:
    while True:
        try:
            return await network.prepare()
        except NetworkError as error:
            _LOG.error("%s; again in %.0f s", error, _PREPARE_AGAIN)
            await clock.sleep(_PREPARE_AGAIN)


SERVICE = Service(
    name="networks",
    reads=(NETWORK_INSTANCE, APP_NETWORK, PORT),
    owns=(NETWORK_INSTANCE_STATUS, APP_NETWORK_STATUS, NETWORK_METRIC, *INTERNAL),
    run=serve,
)
