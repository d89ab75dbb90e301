"""Short ways to say network instances and apps."""

from __future__ import annotations

from edgevirt.model.ids import AppId, NetworkInstanceId
from edgevirt.model.kinds import NETWORK_INSTANCE
from edgevirt.model.network import (
    Acl,
    AclAction,
    AppInterface,
    AppNetwork,
    NetworkInstance,
    NetworkInstanceType,
)
from edgevirt.node.networks.bridge_plan import BridgePlanner
from edgevirt.node.networks.kinds import BRIDGE, Bridge
from edgevirt.runtime.engine import plan_once

INSIDE = NetworkInstanceId("ni-inside")


def instance(
    id: str = INSIDE,
    subnet: str = "10.1.0.0/24",
    gateway: str = "10.1.0.1",
    first: str = "10.1.0.10",
    last: str = "10.1.0.13",
    port: str = "uplink",
    name: str = "inside",
) -> NetworkInstance:
    return NetworkInstance(
        id=NetworkInstanceId(id),
        type=NetworkInstanceType.LOCAL,
        name=name,
        port=port,
        subnet=subnet,
        gateway=gateway,
        dhcp_first=first,
        dhcp_last=last,
    )


def bridges(*instances: NetworkInstance) -> dict[str, Bridge]:
    """What the planner makes of them."""
    wanted: dict[str, NetworkInstance] = {it.id: it for it in instances}
    return dict(plan_once(BridgePlanner("eth0"), {NETWORK_INSTANCE: wanted}).all(BRIDGE))


def app(
    id: str,
    number: int,
    *acls: Acl,
    ip: str = "",
    mac: str = "",
    network: str = INSIDE,
    activate: bool = True,
) -> AppNetwork:
    interface = AppInterface(
        name="net0", network=NetworkInstanceId(network), acls=acls, ip=ip, mac=mac
    )
    return AppNetwork(
        app=AppId(id),
        name=id.upper(),
        app_num=number,
        interfaces=(interface,),
        activate=activate,
    )


def allow(**matches: str) -> Acl:
    return Acl(id=1, matches=tuple(matches.items()))


def portmap(port: int, app_port: int = 80, protocol: str = "tcp") -> Acl:
    return Acl(
        id=2,
        matches=(("protocol", protocol), ("lport", str(port))),
        action=AclAction.PORTMAP,
        app_port=app_port,
    )
