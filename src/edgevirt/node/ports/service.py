"""The ports service: every Ethernet port by DHCP, and how they are."""

from __future__ import annotations

import logging

from edgevirt.host.net.names import Names
from edgevirt.host.net.ports import AdoptedPorts, LinuxPorts, Ports, PortsError
from edgevirt.model.kinds import DEVICE_NETWORK_STATUS
from edgevirt.model.port_config import last_resort
from edgevirt.model.ports import DeviceNetworkStatus, PortConfig
from edgevirt.node.ports.status_report import port_statuses, setups
from edgevirt.node.service import Context, Service
from edgevirt.runtime import release

_LOG = logging.getLogger("edgevirt.ports")
_AGAIN = 5.0


async def serve(context: Context) -> None:
    await release(context.store, SERVICE.owns)
    ports = machine_ports(context)
    try:
        while True:
            try:
                await _keep(context, ports)
            except PortsError as error:
                _LOG.error("%s; again in %.0f s", error, _AGAIN)
                await context.clock.sleep(_AGAIN)
    finally:
        await ports.close()


def machine_ports(context: Context) -> Ports:
    """In host mode the ports are what the launcher made."""
    paths = context.paths
    names = Names(paths.names, paths.hosts)
    return AdoptedPorts(names) if context.settings.host_mode else LinuxPorts(paths.ports, names)


async def _keep(context: Context, ports: Ports) -> None:
    await ports.prepare()
    while True:
        config = last_resort(await ports.interfaces())
        await ports.apply(setups(config))
        status = await _status(config, ports)
        await context.store.put(DEVICE_NETWORK_STATUS, "node", status)
        await ports.changed()


async def _status(config: PortConfig, ports: Ports) -> DeviceNetworkStatus:
    return DeviceNetworkStatus(
        source=config.source, index=0, ports=port_statuses(config.ports, await ports.interfaces())
    )


SERVICE = Service(name="ports", reads=(), owns=(DEVICE_NETWORK_STATUS,), run=serve)
