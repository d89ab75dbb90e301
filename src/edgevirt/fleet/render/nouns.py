"""What is rendered, what comes out, and the ids of both. Pure.

Ids of what exists once per node or app follow from the UIDs of their objects, so that nothing has
to be remembered.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.content.datastore import Datastore
from edgevirt.fleet.objects.content.image import Image
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import HardwareModel
from edgevirt.fleet.objects.software.os_image import OSImage
from edgevirt.model import node
from edgevirt.model.access import AccessConfig
from edgevirt.model.ids import (
    AppId,
    ContentTreeId,
    DatastoreId,
    NetworkInstanceId,
    NodeId,
    VolumeId,
)
from edgevirt.wire import cipher

ROOT: Final = "root"
"""Name of the volume that is made from the app's image."""
RAMDISK: Final = "/ramdisk"
"""Of the one that is made from its initial RAM disk; no name that an App can give."""
COUNTERS: Final = 1 << 32
"""Counters of the wire wrap there."""


class Credentials(msgspec.Struct, frozen=True):
    """User and password of a datastore, in clear."""

    user: str
    password: str


@dataclass(frozen=True)
class Cipher:
    """How secrets are encrypted for this node: the agreed key, and its name in the config."""

    context: node.CipherContext
    key: cipher.BlockKey


@dataclass(frozen=True)
class Objects:
    """Everything that concerns one node; the mappings are by name. `cipher`: None while the node
    has not sent its key. `credentials`: by the datastore's name, of those that ask for them.
    `screen_passwords`: by the app's name, likewise.
    """

    node_id: NodeId
    node: EdgeNode
    instances: tuple[AppInstance, ...] = ()
    apps: Mapping[str, App] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    os_images: Mapping[str, OSImage] = field(default_factory=dict)
    hardware_models: Mapping[str, HardwareModel] = field(default_factory=dict)
    networks: Mapping[str, NetworkInstance] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    datastores: Mapping[str, Datastore] = field(default_factory=dict)
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    screen_passwords: Mapping[str, str] = field(default_factory=dict)
    cipher: Cipher | None = None
    controller_cert_hash: str = ""
    access: AccessConfig | None = None

    @property
    def hardware_model(self) -> HardwareModel | None:
        """The node's."""
        return self.hardware_models.get(self.node.spec.hardware_model)


@dataclass(frozen=True)
class Rendered:
    """`waiting`: why an AppInstance (by name) is not in the config, or cannot start by it.
    `os_waiting`: the same of the OS that the node should run; `volumes_waiting`: of Volumes, by
    name, why they are not in the config or cannot be made.
    """

    config: node.DeviceConfig
    waiting: Mapping[str, str]
    os_waiting: str = ""
    volumes_waiting: Mapping[str, str] = field(default_factory=dict)


def app_id(instance: AppInstance) -> AppId:
    return AppId(instance.metadata.uid)


def network_id(network_instance: NetworkInstance, edge_node: EdgeNode) -> NetworkInstanceId:
    """Each node has a network of its own."""
    return NetworkInstanceId(derive(network_instance.metadata.uid, edge_node.metadata.uid))


def volume_id(instance: AppInstance, name: str) -> VolumeId:
    """`name`: ROOT, or the volume's name in the App."""
    return VolumeId(derive(instance.metadata.uid, f"volume/{name}"))


def content_tree_id(image: Image | OSImage) -> ContentTreeId:
    return ContentTreeId(image.metadata.uid)


def datastore_id(datastore: Datastore) -> DatastoreId:
    return DatastoreId(datastore.metadata.uid)


def make_cipher(
    node_id: NodeId,
    controller_hash: bytes,
    device_hash: bytes,
    key: cipher.BlockKey,
) -> Cipher:
    """The hashes are the short ones by which the certificates are named on the wire."""
    context_id = derive(node_id, f"cipher/{controller_hash.hex()}/{device_hash.hex()}")
    return Cipher(
        node.CipherContext(
            id=context_id, controller_cert_hash=controller_hash, device_cert_hash=device_hash
        ),
        key,
    )


def root_generation(instance: AppInstance, image: Image) -> int:
    """Another image makes another root; the app's data stays."""
    chosen = (image.metadata.uid, image.spec.reference, image.digest, image.spec.format)
    return (instance.spec.purge_counter + number(chosen)) % COUNTERS


def number(*what: object) -> int:
    """Small, and most likely another one when something of `what` changes."""
    return zlib.crc32(msgspec.msgpack.encode(what)) >> 1


def derive(uid: str, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(uid), name))
