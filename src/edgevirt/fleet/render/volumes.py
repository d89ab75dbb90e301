"""Rendering Volumes: data on the node that no App owns. Pure.

A Volume is in its node's config for as long as it exists, whoever uses it.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.fleet.objects.content.image import Image
from edgevirt.fleet.objects.content.volume import Volume, bytes_of
from edgevirt.fleet.render import content
from edgevirt.fleet.render.nouns import COUNTERS, Objects, content_tree_id, number
from edgevirt.model import app as app_model
from edgevirt.model import volume as model
from edgevirt.model.ids import VolumeId


def volume_id(volume: Volume) -> VolumeId:
    return VolumeId(volume.metadata.uid)


def generation(volume: Volume, images: Mapping[str, Image]) -> int:
    """One that may be written is made anew only when people say so."""
    image = images.get(volume.spec.image)
    if not volume.spec.read_only or image is None:
        return volume.spec.purge_counter
    chosen = (image.metadata.uid, image.spec.reference, image.digest, image.spec.format)
    return (volume.spec.purge_counter + number(chosen)) % COUNTERS


def of_node(objects: Objects) -> tuple[Volume, ...]:
    """Those that are to be on it, by name."""
    own = (volume for volume in objects.volumes.values() if _is_here(volume, objects))
    return tuple(sorted(own, key=lambda volume: volume.metadata.name))


def in_config(objects: Objects) -> tuple[Volume, ...]:
    return tuple(volume for volume in of_node(objects) if not missing(volume, objects))


def missing(volume: Volume, objects: Objects) -> str:
    """Why it cannot be in the config; empty: it can."""
    image = volume.spec.image
    return f"Image {image!r} does not exist" if image and image not in objects.images else ""


def waiting(objects: Objects, stores: Mapping[str, str]) -> dict[str, str]:
    """By name: why those of this node are not in the config, or cannot be made. `stores`: why
    Datastores cannot be used.
    """
    found = {}
    for volume in of_node(objects):
        name = volume.metadata.name
        if why := missing(volume, objects):
            found[name] = f"cannot put it on the node: {why}"
        elif volume.spec.image:
            why = content.unreachable(objects.images[volume.spec.image], stores)
            if why:
                found[name] = f"cannot fetch its image: {why}"
    return found


def lacking(app: App, objects: Objects) -> str:
    """Why the node has not all Volumes that the app names; empty: it has."""
    for name in app.named_volumes:
        volume = objects.volumes.get(name)
        if volume is None:
            return f"Volume {name!r} does not exist"
        if not _is_here(volume, objects):
            return f"Volume {name!r} is on EdgeNode {volume.spec.edge_node!r}"
        if why := missing(volume, objects):
            return f"Volume {name!r} cannot be made: {why}"
    return ""


def rendered(volume: Volume, objects: Objects) -> model.Volume:
    image = objects.images.get(volume.spec.image)
    return model.Volume(
        id=volume_id(volume),
        origin=model.VolumeOrigin.DOWNLOAD if image else model.VolumeOrigin.BLANK,
        generation=generation(volume, objects.images),
        content_tree=content_tree_id(image) if image else None,
        max_size=bytes_of(volume),
        readonly=volume.spec.read_only,
        name=volume.metadata.name,
    )


def reference(wanted: AppVolume, mount_dir: str, objects: Objects) -> app_model.VolumeRef:
    """The app is placed, so the Volume is there."""
    volume = objects.volumes[wanted.volume]
    return app_model.VolumeRef(
        volume=volume_id(volume),
        generation=generation(volume, objects.images),
        mount_dir=mount_dir,
    )


def _is_here(volume: Volume, objects: Objects) -> bool:
    return volume.spec.edge_node == objects.node.metadata.name
