"""Rendering: from the objects that concern one node to the config that the node gets. Pure.

The same objects always make the same config, to the byte.

EVE wants a counter raised before it lets an app change: `restart` for its resources and data,
`purge` for its volumes. People here change the App and mean it, so both counters are the sum of
the AppInstance's own and of a number that follows from what each of them stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.os import FALLBACK_PROPERTY
from edgevirt.fleet.render import apps, content, devices, ports, screens, volumes
from edgevirt.fleet.render.nouns import (
    RAMDISK,
    ROOT,
    Cipher,
    Credentials,
    Objects,
    Rendered,
    app_id,
    content_tree_id,
    datastore_id,
    make_cipher,
    network_id,
    volume_id,
)
from edgevirt.fleet.render.system import base_os, os_image, os_waiting, repair
from edgevirt.model import network, node
from edgevirt.model.volume import Volume as VolumeConfig

__all__ = (
    "RAMDISK",
    "ROOT",
    "VERSION",
    "Cipher",
    "Credentials",
    "Objects",
    "Rendered",
    "app_id",
    "content_tree_id",
    "datastore_id",
    "make_cipher",
    "network_id",
    "render",
    "repair",
    "volume_id",
)

VERSION: Final = 3
"""Of this renderer; raise it when the same objects make another config."""


def render(objects: Objects) -> Rendered:
    """The config has neither a version nor a time yet: these are not the objects' business."""
    waiting: dict[str, str] = {}
    placed = list(_place(objects, waiting))
    own = volumes.in_config(objects)
    used = (*(name for _, app in placed for name in app.images), *_images_of(own))
    images = {name: objects.images[name] for name in used}
    system = os_image(objects)
    names = content.datastores_of([*images.values(), *([system] if system else [])])
    stores, lacking = content.datastores(objects, names)
    for instance, app in placed:
        whys = (content.unreachable(objects.images[name], lacking) for name in app.images)
        if why := next(filter(None, whys), ""):
            waiting[instance.metadata.name] = f"cannot fetch its image: {why}"
    encrypt = any(name in objects.credentials for name in names)
    encrypt = encrypt or screens.are_secret(app for _, app in placed)
    edge_node, model = objects.node, objects.hardware_model
    own_ports = tuple(devices.with_model(ports.ports(edge_node), model))
    rendered = node.DeviceConfig(
        id=objects.node_id,
        properties=tuple(sorted(_properties(edge_node).items())),
        reboot_counter=edge_node.spec.reboot_counter,
        shutdown_counter=edge_node.spec.shutdown_counter,
        datastores=stores,
        content_trees=(
            *(content.content_tree(images[name], objects) for name in sorted(images)),
            *((content.content_tree(system, objects),) if system else ()),
        ),
        volumes=tuple(_volumes(objects, placed, own)),
        network_instances=tuple(_networks(objects, placed)),
        apps=tuple(apps.app_instance(instance, app, objects) for instance, app in placed),
        ports=own_ports,
        devices=devices.devices(model, own_ports),
        networks=ports.networks(edge_node),
        base_os=base_os(objects),
        cipher_contexts=(objects.cipher.context,) if encrypt and objects.cipher else (),
        access=objects.access,
        controller_cert_hash=objects.controller_cert_hash,
        device_name=edge_node.metadata.name,
        project_name=edge_node.metadata.namespace,
    )
    return Rendered(
        rendered, waiting, os_waiting(objects, lacking), volumes.waiting(objects, lacking)
    )


def _volumes(
    objects: Objects, placed: list[tuple[AppInstance, App]], own: Iterable[Volume]
) -> Iterator[VolumeConfig]:
    """Those that Apps own, then those that nobody owns."""
    for instance, app in placed:
        yield from content.volumes(instance, app, objects)
    yield from (volumes.rendered(volume, objects) for volume in own)


def _images_of(own: Iterable[Volume]) -> Iterator[str]:
    return (volume.spec.image for volume in own if volume.spec.image)


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
            else:
                why = (
                    volumes.lacking(app, objects)
                    or devices.lacking(app, objects.node, objects.hardware_model)
                    or screens.lacking(app, objects)
                )
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
