"""Rendering: from the objects that concern one node to the config that the node gets. Pure.

The same objects always make the same config, to the byte. Ids of what exists once per node or app
follow from the UIDs of their objects, so that nothing has to be remembered.

EVE wants a counter raised before it lets an app change: `restart` for its resources and data,
`purge` for its volumes. People here change the App and mean it, so both counters are the sum of
the AppInstance's own and of a number that follows from what each of them stands for.
"""

from __future__ import annotations

import base64
import shlex
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.fleet import render_ports
from edgevirt.fleet.objects.app import CONTAINER, UNIKERNEL, App, AppAcl, AppInterface
from edgevirt.fleet.objects.app_instance import AppInstance
from edgevirt.fleet.objects.datastore import Datastore
from edgevirt.fleet.objects.edgenode import EdgeNode
from edgevirt.fleet.objects.image import Image
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.node_os import FALLBACK_PROPERTY, NodeOS
from edgevirt.fleet.objects.os_image import OSImage
from edgevirt.model import app as app_model
from edgevirt.model import baseos, content, network, node, volume
from edgevirt.model.ids import (
    AppId,
    ContentTreeId,
    DatastoreId,
    NetworkInstanceId,
    NodeId,
    VolumeId,
)
from edgevirt.model.quantity import whole
from edgevirt.wire import cipher
from edgevirt.wire.messages import common

VERSION: Final = 2
"""Of this renderer; raise it when the same objects make another config."""
ROOT: Final = "root"
"""Name of the volume that is made from the app's image."""
RAMDISK: Final = "/ramdisk"
"""Of the one that is made from its initial RAM disk; no name that an App can give."""
_DEVICES: Final = {"CDROM": "/dev/cdrom", "Floppy": "/dev/fd0"}
"""A virtual machine mounts nothing by itself; so this is where a volume says what it is."""
_FIRMWARES: Final = {
    "": app_model.BootMode.UNSPECIFIED,
    "BIOS": app_model.BootMode.LEGACY,
    "UEFI": app_model.BootMode.UEFI,
}

_APP_VERSION: Final = "1"
_KIB: Final = 1024
_COUNTERS: Final = 1 << 32
_MODES: Final = {
    "None": app_model.VirtualizationMode.NOHYPER,
    "PV": app_model.VirtualizationMode.PV,
    "HVM": app_model.VirtualizationMode.HVM,
    "FML": app_model.VirtualizationMode.FML,
    "Legacy": app_model.VirtualizationMode.LEGACY,
}
_FORMATS: Final = {
    "Container": content.ContentFormat.CONTAINER,
    "Raw": content.ContentFormat.RAW,
    "Qcow": content.ContentFormat.QCOW,
    "Qcow2": content.ContentFormat.QCOW2,
    "VHD": content.ContentFormat.VHD,
    "VMDK": content.ContentFormat.VMDK,
    "OVA": content.ContentFormat.OVA,
    "VHDX": content.ContentFormat.VHDX,
    "ISO": content.ContentFormat.ISO,
}
_DATASTORES: Final = {
    "OCIRegistry": content.DatastoreType.CONTAINER_REGISTRY,
    "HTTP": content.DatastoreType.HTTP,
    "HTTPS": content.DatastoreType.HTTPS,
}
_ANYWHERE: Final = (("ip", "0.0.0.0/0"),)


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
    """

    node_id: NodeId
    node: EdgeNode
    instances: tuple[AppInstance, ...] = ()
    apps: Mapping[str, App] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    os_images: Mapping[str, OSImage] = field(default_factory=dict)
    networks: Mapping[str, NetworkInstance] = field(default_factory=dict)
    datastores: Mapping[str, Datastore] = field(default_factory=dict)
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    cipher: Cipher | None = None
    controller_cert_hash: str = ""


@dataclass(frozen=True)
class Rendered:
    """`waiting`: why an AppInstance (by name) is not in the config, or cannot start by it.
    `os_waiting`: the same of the OS that the node should run.
    """

    config: node.DeviceConfig
    waiting: Mapping[str, str]
    os_waiting: str = ""


def render(objects: Objects) -> Rendered:
    """The config has neither a version nor a time yet: these are not the objects' business."""
    waiting: dict[str, str] = {}
    placed = list(_place(objects, waiting))
    images = {name: objects.images[name] for _, app in placed for name in app.images}
    system = _os_image(objects)
    names = _datastores_of([*images.values(), *([system] if system else [])])
    stores, lacking = _datastores(objects, names)
    for instance, app in placed:
        whys = (_unreachable(objects.images[name], lacking) for name in app.images)
        if why := next(filter(None, whys), ""):
            waiting[instance.metadata.name] = f"cannot fetch its image: {why}"
    encrypt = any(name in objects.credentials for name in names)
    edge_node = objects.node
    rendered = node.DeviceConfig(
        id=objects.node_id,
        properties=tuple(sorted(_properties(edge_node).items())),
        reboot_counter=edge_node.spec.reboot_counter,
        shutdown_counter=edge_node.spec.shutdown_counter,
        datastores=stores,
        content_trees=(
            *(_content_tree(images[name], objects) for name in sorted(images)),
            *((_content_tree(system, objects),) if system else ()),
        ),
        volumes=tuple(v for instance, app in placed for v in _volumes(instance, app, objects)),
        network_instances=tuple(_networks(objects, placed)),
        apps=tuple(_app(instance, app, objects) for instance, app in placed),
        ports=render_ports.ports(edge_node),
        networks=render_ports.networks(edge_node),
        base_os=_base_os(edge_node.spec.os, system),
        cipher_contexts=(objects.cipher.context,) if encrypt and objects.cipher else (),
        controller_cert_hash=objects.controller_cert_hash,
        device_name=edge_node.metadata.name,
        project_name=edge_node.metadata.namespace,
    )
    return Rendered(rendered, waiting, _os_waiting(objects, system, lacking))


def app_id(instance: AppInstance) -> AppId:
    return AppId(instance.metadata.uid)


def network_id(network_instance: NetworkInstance, edge_node: EdgeNode) -> NetworkInstanceId:
    """Each node has a network of its own."""
    return NetworkInstanceId(_derive(network_instance.metadata.uid, edge_node.metadata.uid))


def volume_id(instance: AppInstance, name: str) -> VolumeId:
    """`name`: ROOT, or the volume's name in the App."""
    return VolumeId(_derive(instance.metadata.uid, f"volume/{name}"))


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
    context_id = _derive(node_id, f"cipher/{controller_hash.hex()}/{device_hash.hex()}")
    return Cipher(
        node.CipherContext(
            id=context_id, controller_cert_hash=controller_hash, device_cert_hash=device_hash
        ),
        key,
    )


def _derive(uid: str, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(uid), name))


def _place(objects: Objects, waiting: dict[str, str]) -> Iterator[tuple[AppInstance, App]]:
    """Instances whose every part is there, by name."""
    for instance in sorted(objects.instances, key=lambda i: i.metadata.name):
        app = objects.apps.get(instance.spec.app)
        why = ""
        if app is None:
            why = f"App {instance.spec.app!r} does not exist"
        elif missing := [name for name in app.images if name not in objects.images]:
            why = f"Image {missing[0]!r} does not exist"
        else:
            lacking = {i.network_instance for i in app.spec.interfaces} - objects.networks.keys()
            if lacking:
                why = f"NetworkInstance {min(lacking)!r} does not exist"
        if why or app is None:
            waiting[instance.metadata.name] = f"cannot put it on the node: {why}"
        else:
            yield instance, app


def _properties(edge_node: EdgeNode) -> dict[str, str]:
    """What the spec lists, and what it says in a field of its own."""
    properties = dict(edge_node.spec.properties)
    if edge_node.spec.os is not None and edge_node.spec.os.fallback_counter:
        properties[FALLBACK_PROPERTY] = str(edge_node.spec.os.fallback_counter)
    return properties


def _datastores_of(images: Iterable[Image | OSImage]) -> list[str]:
    return sorted({ref.name for image in images for ref in image.spec.datastore_refs})


def _datastores(
    objects: Objects, names: list[str]
) -> tuple[tuple[content.Datastore, ...], dict[str, str]]:
    """Those that can be used, and why the others (by name) cannot."""
    found: list[content.Datastore] = []
    lacking: dict[str, str] = {}
    for name in names:
        store = objects.datastores.get(name)
        if store is None:
            lacking[name] = f"Datastore {name!r} does not exist"
        elif store.spec.credentials_secret_ref is not None and name not in objects.credentials:
            secret = store.spec.credentials_secret_ref.name
            lacking[name] = f"Secret {secret!r} cannot be read"
        elif name in objects.credentials and objects.cipher is None:
            lacking[name] = "the node has not sent its encryption key yet"
        else:
            found.append(_datastore(store, objects.credentials.get(name), objects.cipher))
    return tuple(found), lacking


def _unreachable(image: Image | OSImage, lacking: Mapping[str, str]) -> str:
    """Why no datastore that has it can be used; empty: one can."""
    reasons = [lacking.get(ref.name, "") for ref in image.spec.datastore_refs]
    return reasons[0] if reasons and all(reasons) else ""


# -- the node's own software --


def _os_image(objects: Objects) -> OSImage | None:
    wanted = objects.node.spec.os
    return objects.os_images.get(wanted.image) if wanted is not None else None


def _base_os(wanted: NodeOS | None, image: OSImage | None) -> baseos.BaseOs | None:
    if wanted is None or image is None:
        return None
    return baseos.BaseOs(
        content_tree=content_tree_id(image),
        version=image.spec.version,
        activate=wanted.activate,
        retry_counter=wanted.retry_counter,
    )


def _os_waiting(objects: Objects, image: OSImage | None, lacking: Mapping[str, str]) -> str:
    wanted = objects.node.spec.os
    if wanted is None:
        return ""
    if image is None:
        return f"OSImage {wanted.image!r} does not exist"
    return _unreachable(image, lacking)


def _datastore(
    store: Datastore, credentials: Credentials | None, secret: Cipher | None
) -> content.Datastore:
    block = None
    if credentials is not None and secret is not None:
        secrets = common.EncryptionBlock(dsAPIKey=credentials.user, dsPassword=credentials.password)
        if secrets.ByteSize():
            sealed = cipher.seal_secrets(secret.key, secret.context.id, secrets)
            block = content.CipherBlock(
                context_id=sealed.cipherContextId,
                initial_value=sealed.initialValue,
                data=sealed.cipherData,
                clear_sha256=sealed.clearTextSha256,
            )
    return content.Datastore(
        id=datastore_id(store),
        type=_DATASTORES[store.spec.type],
        fqdn=store.spec.url.rstrip("/"),
        dpath=store.spec.path,
        ca_pem=store.spec.ca_certificates,
        cipher=block,
    )


def _content_tree(image: Image | OSImage, objects: Objects) -> content.ContentTree:
    found = (objects.datastores.get(ref.name) for ref in image.spec.datastore_refs)
    stores = [store for store in found if store is not None]
    return content.ContentTree(
        id=content_tree_id(image),
        datastores=tuple(datastore_id(store) for store in stores),
        url=image.spec.reference,
        format=_FORMATS[image.spec.format],
        sha256=image.digest,
        max_size=image.max_bytes,
        name=image.metadata.name,
        signers=_signers(image, stores),
    )


def _signers(image: Image | OSImage, stores: Iterable[Datastore]) -> tuple[str, ...]:
    """The image's own, else those of all its datastores: whichever serves it, somebody signs."""
    own = image.spec.signing_keys if isinstance(image, Image) else ()
    keys = own or [key for store in stores for key in store.spec.signing_keys]
    return tuple(sorted({key.strip() + "\n" for key in keys}))


def _volumes(instance: AppInstance, app: App, objects: Objects) -> Iterator[volume.Volume]:
    name = instance.metadata.name
    image = objects.images[app.spec.image]
    root = _image_volume(instance, ROOT, image)
    yield replace(root, max_size=whole(app.spec.resources.disk))
    if app.spec.ramdisk:
        yield _image_volume(instance, RAMDISK, objects.images[app.spec.ramdisk])
    for wanted in app.spec.volumes:
        if wanted.image:
            image = objects.images[wanted.image]
            made = _image_volume(instance, wanted.name, image)
            readonly = wanted.device == "CDROM"
            yield replace(made, max_size=whole(wanted.size), readonly=readonly)
            continue
        yield volume.Volume(
            id=volume_id(instance, wanted.name),
            origin=volume.VolumeOrigin.BLANK,
            generation=instance.spec.purge_counter,
            max_size=whole(wanted.size),
            name=f"{name}-{wanted.name}",
        )


def _image_volume(instance: AppInstance, name: str, image: Image) -> volume.Volume:
    return volume.Volume(
        id=volume_id(instance, name),
        origin=volume.VolumeOrigin.DOWNLOAD,
        generation=_root_generation(instance, image),
        content_tree=content_tree_id(image),
        name=f"{instance.metadata.name}-{name}",
    )


def _root_generation(instance: AppInstance, image: Image) -> int:
    """Another image makes another root; the app's data stays."""
    chosen = (image.metadata.uid, image.spec.reference, image.digest, image.spec.format)
    return (instance.spec.purge_counter + _number(chosen)) % _COUNTERS


def _app(instance: AppInstance, app: App, objects: Objects) -> app_model.AppInstance:
    spec = app.spec
    memory = -(-app.memory_bytes // _KIB)
    volumes = tuple(_volume_refs(instance, app, objects))
    resources = app_model.Resources(
        memory_kib=memory,
        max_memory_kib=memory,
        vcpus=app.cpus,
        mode=_MODES[app.virtualization],
        boot_mode=_FIRMWARES[spec.firmware],
    )
    if spec.type == UNIKERNEL:
        resources = replace(
            resources,
            kernel=volume_id(instance, ROOT),
            ramdisk=volume_id(instance, RAMDISK) if spec.ramdisk else "",
            kernel_arguments=" ".join(spec.command),  # no shell reads it
        )
    user_data = _user_data(instance, app)
    staged = [(i.name, i.network_instance, i.ip, i.mac) for i in spec.interfaces]
    return app_model.AppInstance(
        id=app_id(instance),
        name=instance.metadata.name,
        version=_APP_VERSION,
        activate=instance.spec.activate and objects.node.spec.activate,
        resources=resources,
        volumes=volumes,
        interfaces=tuple(_interface(part, objects) for part in spec.interfaces),
        restart_counter=(instance.spec.restart_counter + _number(resources, user_data, staged))
        % _COUNTERS,
        purge_counter=(instance.spec.purge_counter + _number(volumes)) % _COUNTERS,
        user_data=user_data,
        delay=spec.start_delay_seconds,
    )


def _volume_refs(
    instance: AppInstance, app: App, objects: Objects
) -> Iterator[app_model.VolumeRef]:
    """The root first."""

    def of_image(name: str, image: str, device: str = "") -> app_model.VolumeRef:
        return app_model.VolumeRef(
            volume=volume_id(instance, name),
            generation=_root_generation(instance, objects.images[image]),
            mount_dir=_DEVICES.get(device, ""),
        )

    yield of_image(ROOT, app.spec.image)
    if app.spec.ramdisk:
        yield of_image(RAMDISK, app.spec.ramdisk)
    for wanted in app.spec.volumes:
        if wanted.image:
            yield of_image(wanted.name, wanted.image, wanted.device)
            continue
        yield app_model.VolumeRef(
            volume=volume_id(instance, wanted.name),
            generation=instance.spec.purge_counter,
            mount_dir=wanted.mount_path,
        )


def _number(*what: object) -> int:
    """Small, and most likely another one when something of `what` changes."""
    return zlib.crc32(msgspec.msgpack.encode(what)) >> 1


def _user_data(instance: AppInstance, app: App) -> str:
    """Of a container the environment: where the app runs, then what it asks for, which may say
    otherwise. Of a virtual machine what cloud-init is told.
    """
    if app.spec.type != CONTAINER:
        return base64.b64encode(app.spec.user_data.encode()).decode()
    where = {
        "EDGEVIRT_APP": instance.metadata.name,
        "EDGEVIRT_NODE": instance.spec.edge_node,
        "EDGEVIRT_PROJECT": instance.metadata.namespace,
    }
    named = where | {variable.name: variable.value for variable in app.spec.env}
    lines = [f"{name}={value}" for name, value in named.items()]
    if app.spec.command:
        lines.append(f"EVE_ECO_CMD={shlex.join(app.spec.command)}")
    return base64.b64encode("\n".join(lines).encode()).decode()


def _interface(wanted: AppInterface, objects: Objects) -> network.AppInterface:
    rules = [*_port_maps(wanted)]
    if wanted.acls is None:
        rules.append(network.Acl(id=0, matches=_ANYWHERE))
    else:
        rules.extend(map(_acl, wanted.acls))
    return network.AppInterface(
        name=wanted.name,
        network=network_id(objects.networks[wanted.network_instance], objects.node),
        mac=wanted.mac.lower(),
        ip=wanted.ip,
        acls=tuple(
            msgspec.structs.replace(rule, id=number) for number, rule in enumerate(rules, 1)
        ),
    )


def _port_maps(wanted: AppInterface) -> Iterator[network.Acl]:
    for port in wanted.ports:
        yield network.Acl(
            id=0,
            matches=(("protocol", port.protocol.lower()), ("lport", str(port.node_port))),
            action=network.AclAction.PORTMAP,
            app_port=port.app_port,
        )


def _acl(rule: AppAcl) -> network.Acl:
    match = rule.match
    matches = [
        (kind, value)
        for kind, value in (
            ("ip", match.ip),
            ("host", match.host),
            ("protocol", match.protocol.lower()),
            ("lport", str(match.local_port or "")),
            ("fport", str(match.remote_port or "")),
        )
        if value
    ]
    limit = rule.limit
    return network.Acl(
        id=0,
        matches=tuple(matches) or _ANYWHERE,
        action=network.AclAction(rule.action.lower()),
        limit_rate=limit.rate if limit else 0,
        limit_unit=limit.unit if limit else "",
        limit_burst=limit.burst if limit else 0,
    )


def _networks(
    objects: Objects, placed: list[tuple[AppInstance, App]]
) -> Iterator[network.NetworkInstance]:
    used = {part.network_instance for _, app in placed for part in app.spec.interfaces}
    for name in sorted(used):
        wanted = objects.networks[name]
        plan = wanted.addressing
        spec = wanted.spec
        yield network.NetworkInstance(
            id=network_id(wanted, objects.node),
            type=network.NetworkInstanceType[spec.type.upper()],
            name=name,
            port=spec.port,
            subnet=str(plan.subnet) if plan else "",
            gateway=str(plan.gateway) if plan else "",
            dhcp_first=str(plan.first) if plan else "",
            dhcp_last=str(plan.last) if plan else "",
            domain=spec.dns.domain,
            ntp=spec.ntp,
            dns=spec.dns.servers,
            static_names=tuple((entry.name, entry.addresses) for entry in spec.dns.static_names),
            flow_log=spec.flow_log,
            mtu=spec.mtu,
        )
