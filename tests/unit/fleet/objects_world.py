"""Objects of one project, as the operators' API would have stored them. For tests."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import msgspec

from edgevirt.fleet.objects.app.app import App, AppSpec, EnvVar
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceSpec
from edgevirt.fleet.objects.app.interface import AppInterface, PortMap
from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.fleet.objects.base.object import LocalRef, ObjectMeta
from edgevirt.fleet.objects.content.datastore import Datastore, DatastoreSpec
from edgevirt.fleet.objects.content.image import Image, ImageSpec
from edgevirt.fleet.objects.network_instance import NetworkInstance, NetworkInstanceSpec
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.fleet.render import Objects
from edgevirt.model.ids import NodeId

NAMESPACE = "shop"
_UIDS = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def meta(name: str, generation: int = 1) -> ObjectMeta:
    """The same UID for the same name."""
    uid = str(uuid.uuid5(_UIDS, name))
    return ObjectMeta(name=name, namespace=NAMESPACE, uid=uid, generation=generation)


NODE = EdgeNode(metadata=meta("till-1"), spec=EdgeNodeSpec(serial="sn-1"))
STORE = Datastore(
    metadata=meta("hub"), spec=DatastoreSpec(type="OCIRegistry", url="docker://hub.example")
)
IMAGE = Image(
    metadata=meta("nginx"),
    spec=ImageSpec(datastore_refs=(LocalRef(name="hub"),), reference="nginx:1.25"),
)
LAN = NetworkInstance(metadata=meta("lan"), spec=NetworkInstanceSpec(subnet="10.1.0.0/24"))
APP = App(
    metadata=meta("web"),
    spec=AppSpec(
        image="nginx",
        env=(EnvVar(name="COLOUR", value="blue"),),
        interfaces=(
            AppInterface(
                name="eth0",
                network_instance="lan",
                ports=(PortMap(node_port=8080, app_port=80),),
            ),
        ),
        volumes=(AppVolume(name="data", size="10Mi", mount_path="/data"),),
    ),
)
INSTANCE = AppInstance(metadata=meta("web-1"), spec=AppInstanceSpec(app="web", edge_node="till-1"))
OBJECTS = Objects(
    node_id=NodeId("11111111-2222-3333-4444-555555555555"),
    node=NODE,
    instances=(INSTANCE,),
    apps={"web": APP},
    images={"nginx": IMAGE},
    networks={"lan": LAN},
    datastores={"hub": STORE},
    controller_cert_hash="certs",
)


def changed(value: Any, **spec: Any) -> Any:
    """`value` with another spec, one generation later."""
    generation = value.metadata.generation + 1
    return msgspec.structs.replace(
        value,
        metadata=msgspec.structs.replace(value.metadata, generation=generation),
        spec=msgspec.structs.replace(value.spec, **spec),
    )


def having(**parts: Any) -> Objects:
    """OBJECTS with other parts."""
    return replace(OBJECTS, **parts)
