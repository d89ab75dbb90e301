"""Counters of the machine → NetworkMetric, every few seconds: apps, network instances, the node.

A plain loop: nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger

import msgspec

from edgevirt.host.net.network import Network, NetworkError
from edgevirt.host.net.spec import LinkCounters
from edgevirt.model.kinds import NETWORK_METRIC
from edgevirt.model.network import InterfaceCounters, NetworkMetric
from edgevirt.node.networks.kinds import BRIDGE, LINK, NODE, Bridge, Link
from edgevirt.runtime import Clock, Store
from edgevirt.runtime.store import release

INTERVAL = 10.0
"""Seconds; the controller is told every minute."""


class MetricReporter(msgspec.Struct, frozen=True):
    store: Store
    clock: Clock
    network: Network
    uplink: str
    log: Logger

    async def run(self) -> None:
        """Never returns by itself."""
        while True:
            try:
                await self.report()
            except NetworkError as error:
                self.log.warning("%s", error)
            await self.clock.sleep(INTERVAL)

    async def report(self) -> None:
        links = await self.network.counters()
        drops = await self.network.drops()
        apps = {key: item.value for key, item in (await self.store.list(LINK)).items()}
        bridges = {key: item.value for key, item in (await self.store.list(BRIDGE)).items()}
        wanted = {
            **{key: app_counters(app, links, drops) for key, app in apps.items()},
            **{key: bridge_counters(bridge, links) for key, bridge in bridges.items()},
            NODE: node_counters(links, {self.uplink}),
        }
        for key, counters in wanted.items():
            metric = NetworkMetric(at=self.clock.now(), counters=counters)
            await self.store.put(NETWORK_METRIC, key, metric)
        for key in await self.store.list(NETWORK_METRIC):
            if key not in wanted:
                await self.store.delete(NETWORK_METRIC, key)
        await release(self.store, [NETWORK_METRIC])


def app_counters(
    app: Link, links: Mapping[str, LinkCounters], drops: Mapping[str, int]
) -> tuple[InterfaceCounters, ...]:
    """From the app's side: what it sent, the node's end received."""
    return tuple(
        InterfaceCounters(
            name=link.name,
            rx_bytes=seen.tx_bytes,
            tx_bytes=seen.rx_bytes,
            rx_packets=seen.tx_packets,
            tx_packets=seen.rx_packets,
            rx_drops=seen.tx_drops,
            tx_drops=seen.rx_drops,
            acl_drops=drops.get(link.host_name, 0),
        )
        for link in (interface.link for interface in app.interfaces)
        if (seen := links.get(link.host_name)) is not None
    )


def bridge_counters(
    bridge: Bridge, links: Mapping[str, LinkCounters]
) -> tuple[InterfaceCounters, ...]:
    return node_counters(links, {bridge.spec.name} if bridge.spec is not None else set())


def node_counters(
    links: Mapping[str, LinkCounters], names: set[str]
) -> tuple[InterfaceCounters, ...]:
    return tuple(
        InterfaceCounters(
            name=name,
            rx_bytes=seen.rx_bytes,
            tx_bytes=seen.tx_bytes,
            rx_packets=seen.rx_packets,
            tx_packets=seen.tx_packets,
            rx_drops=seen.rx_drops,
            tx_drops=seen.tx_drops,
        )
        for name in sorted(names)
        if (seen := links.get(name)) is not None
    )
