"""Rendering datastores, content trees and volumes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.content.datastore import Datastore
from edgevirt.fleet.objects.content.image import Image
from edgevirt.fleet.objects.software.os_image import OSImage
from edgevirt.fleet.render.nouns import (
    RAMDISK,
    ROOT,
    Cipher,
    Credentials,
    Objects,
    content_tree_id,
    datastore_id,
    root_generation,
    volume_id,
)
from edgevirt.fleet.render.screens import seal
from edgevirt.model import content, volume
from edgevirt.model.quantity import whole
from edgevirt.wire.messages import common

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


def datastores_of(images: Iterable[Image | OSImage]) -> list[str]:
    return sorted({ref.name for image in images for ref in image.spec.datastore_refs})


def datastores(
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


def unreachable(image: Image | OSImage, lacking: Mapping[str, str]) -> str:
    """Why no datastore that has it can be used; empty: one can."""
    reasons = [lacking.get(ref.name, "") for ref in image.spec.datastore_refs]
    return reasons[0] if reasons and all(reasons) else ""


def _datastore(
    store: Datastore, credentials: Credentials | None, secret: Cipher | None
) -> content.Datastore:
    block = None
    if credentials is not None and secret is not None:
        secrets = common.EncryptionBlock(dsAPIKey=credentials.user, dsPassword=credentials.password)
        if secrets.ByteSize():
            block = seal(secret, secrets)
    return content.Datastore(
        id=datastore_id(store),
        type=_DATASTORES[store.spec.type],
        fqdn=store.spec.url.rstrip("/"),
        dpath=store.spec.path,
        ca_pem=store.spec.ca_certificates,
        cipher=block,
    )


def content_tree(image: Image | OSImage, objects: Objects) -> content.ContentTree:
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


def volumes(instance: AppInstance, app: App, objects: Objects) -> Iterator[volume.Volume]:
    name = instance.metadata.name
    image = objects.images[app.spec.image]
    root = _image_volume(instance, ROOT, image)
    yield replace(root, max_size=whole(app.spec.resources.disk))
    if app.spec.ramdisk:
        yield _image_volume(instance, RAMDISK, objects.images[app.spec.ramdisk])
    for wanted in app.spec.volumes:
        if wanted.volume:
            continue
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
        generation=root_generation(instance, image),
        content_tree=content_tree_id(image),
        name=f"{instance.metadata.name}-{name}",
    )
