"""Rendering the node's own software: in its config, and alone for one that is barred. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edgevirt.fleet.objects.software.os_image import OSImage
from edgevirt.fleet.render import content
from edgevirt.fleet.render.nouns import Objects, content_tree_id
from edgevirt.model import baseos, node


def os_image(objects: Objects) -> OSImage | None:
    wanted = objects.node.spec.os
    return objects.os_images.get(wanted.image) if wanted is not None else None


def base_os(objects: Objects) -> baseos.BaseOs | None:
    wanted, image = objects.node.spec.os, os_image(objects)
    if wanted is None or image is None:
        return None
    return baseos.BaseOs(
        content_tree=content_tree_id(image),
        version=image.spec.version,
        activate=wanted.activate,
        retry_counter=wanted.retry_counter,
    )


def os_waiting(objects: Objects, lacking: Mapping[str, str]) -> str:
    """Why the node cannot have the version that is wanted; empty: it can, or none is."""
    wanted, image = objects.node.spec.os, os_image(objects)
    if wanted is None:
        return ""
    if image is None:
        return f"OSImage {wanted.image!r} does not exist"
    return content.unreachable(image, lacking)


def repair(objects: Objects) -> node.DeviceConfig | None:
    """What a barred node may have: the wanted version of its system, where it is, and no other
    secret than what opens that place. None: no version is wanted, or none can be fetched.
    """
    image = os_image(objects)
    if image is None:
        return None
    names = content.datastores_of([image])
    stores, lacking = content.datastores(objects, names)
    if content.unreachable(image, lacking):
        return None
    encrypt = any(name in objects.credentials for name in names)
    return node.DeviceConfig(
        id=objects.node_id,
        datastores=stores,
        content_trees=(content.content_tree(image, objects),),
        base_os=base_os(objects),
        cipher_contexts=(objects.cipher.context,) if encrypt and objects.cipher else (),
    )
