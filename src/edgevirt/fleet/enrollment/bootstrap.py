"""The bootstrap config: how a new node reaches the fleet where DHCP alone does not do.

It lies on the node's CONFIG and is used once, before the first config of the fleet comes. Nodes
heed its ports, their networks and the properties; it is signed as a config is, and holds the
certificates that prove it, since the node cannot ask for them yet.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edgevirt.fleet.api.table import Subresource
from edgevirt.fleet.keys import KeyRing, Keys
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.render import ports as render_ports
from edgevirt.model.ids import NodeId
from edgevirt.model.node import DeviceConfig
from edgevirt.runtime import Clock
from edgevirt.wire.convert import device as convert
from edgevirt.wire.messages import auth, certs, config

FILE = "bootstrap-config.pb"
"""Its name on CONFIG."""


def make_bootstrap(edge_node: EdgeNode, keys: Keys, now: float) -> bytes:
    """The file. The machine has no UUID yet, so the config names the EdgeNode's."""
    wanted = DeviceConfig(
        id=NodeId(edge_node.metadata.uid),
        timestamp=now,
        properties=tuple(sorted(edge_node.spec.properties.items())),
        ports=render_ports.ports(edge_node),
        networks=render_ports.networks(edge_node),
        device_name=edge_node.metadata.name,
        project_name=edge_node.metadata.namespace,
    )
    payload = convert.to_message(wanted).SerializeToString(deterministic=True)
    message = config.BootstrapConfig(
        signed_config=auth.AuthContainer.FromString(keys.seal(payload))
    )
    message.controller_certs.extend(certs.ZControllerCert.FromString(keys.certs_payload).certs)
    return message.SerializeToString(deterministic=True)


class Bootstrap:
    """Makes the subresource `bootstrap` of an EdgeNode, for whoever may read the object."""

    def __init__(self, ring: KeyRing, clock: Clock) -> None:
        self._ring = ring
        self._clock = clock

    def subresources(self) -> tuple[Subresource, ...]:
        return (Subresource("EdgeNode", "bootstrap", self.bootstrap),)

    async def bootstrap(self, _request: Request, about: ApiObject) -> Response:
        assert isinstance(about, EdgeNode)
        content = make_bootstrap(about, self._ring.keys, self._clock.now())
        return Response(content, media_type="application/octet-stream")
