"""What an image is, told from its manifest and config alone."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgevirt.image.eci.layout import Layout
from edgevirt.model.eci import PartKind
from edgevirt.model.ids import Digest
from edgevirt.model.quantity import human
from edgevirt.wire import eci, oci

_WORDS = {
    PartKind.KERNEL: "kernel",
    PartKind.INITRD: "initrd",
    PartKind.ROOT: "root disk",
    PartKind.DISK: "disk",
    PartKind.PIECE: "piece",
}


class Item(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A layer. `what`: `kernel`, `initrd`, `root disk`, `disk`, `piece` or `files`."""

    what: str
    digest: str
    size: int
    format: str = ""
    offset: int | None = None
    media_type: str = ""
    title: str = ""


class Description(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    digest: str
    kind: str
    """`container`, `machine` or `index`."""
    architecture: str = ""
    os: str = ""
    size: int = 0
    disk_size: int = 0
    cmdline: str = ""
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cpus: int = 0
    memory: int = 0
    virtualization: str = ""
    devices: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


def describe(layout: Layout, digest: Digest, here: oci.Platform) -> Description:
    """Of the manifest `digest`. `here`: the machine that it was chosen for. Raises BadDocument,
    LayoutError.
    """
    data = layout.read(digest)
    document = oci.parse_document(data)
    if document.manifests is not None:
        items = tuple(_entry(child) for child in document.manifests)
        return Description(digest=digest, kind="index", items=items)
    manifest = oci.parse_manifest(data, here)
    wants = manifest.declared.wants
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    architecture = system = ""
    labelled: tuple[tuple[str, str], ...] = ()
    if document.config is not None and document.config.media_type in oci.CONFIGS:
        config = layout.read(Digest(document.config.digest))
        platform = oci.parse_platform(config)
        architecture, system = platform.architecture, platform.os
        if not manifest.parts:
            image, _ = oci.parse_config(config, platform)
            command, env = (*image.entrypoint, *image.cmd), image.env
            labelled = oci.parse_labels(config)
    return Description(
        digest=digest,
        kind="machine" if manifest.parts or labelled else "container",
        architecture=architecture,
        os=system,
        size=sum(layer.size for layer in document.layers or ()),
        disk_size=manifest.declared.disk_size,
        cmdline=manifest.declared.cmdline,
        command=command,
        env=env,
        cpus=wants.cpus,
        memory=wants.memory,
        virtualization=wants.virtualization,
        devices=wants.devices,
        items=tuple(_item(layer) for layer in document.layers or ()),
        annotations=document.annotations or {},
    )


def _entry(child: oci.Descriptor) -> Item:
    platform = child.platform or oci.Platform()
    words = "/".join(
        part for part in (platform.os, platform.architecture, platform.variant) if part
    )
    return Item(what="image", digest=child.digest, size=child.size, title=words)


def _item(layer: oci.Descriptor) -> Item:
    annotations = layer.annotations or {}
    part = eci.part_of(layer.media_type, annotations)
    disk = part is not None and part.kind in {PartKind.ROOT, PartKind.DISK, PartKind.PIECE}
    return Item(
        what=_WORDS[part.kind] if part is not None else "files",
        digest=layer.digest,
        size=layer.size,
        format=part.format.name.lower() if part is not None and disk else "",
        offset=part.offset if part is not None and part.kind == PartKind.PIECE else None,
        media_type=layer.media_type,
        title=annotations.get(eci.TITLE, ""),
    )


def lines(found: Description) -> Iterator[str]:
    """For people."""
    machine = "/".join(part for part in (found.os, found.architecture) if part)
    yield f"{'digest':16}{found.digest}"
    yield f"{'kind':16}{found.kind}{f', for {machine}' if machine else ''}"
    for name, value in (
        ("command", " ".join(found.command)),
        ("command line", found.cmdline),
        ("disk size", human(found.disk_size) if found.disk_size else ""),
        ("wants", ", ".join(_wants(found))),
    ):
        if value:
            yield f"{name:16}{value}"
    for item in found.items:
        more = [item.format, f"at {item.offset}" if item.offset is not None else "", item.title]
        told = " ".join(word for word in more if word)
        yield f"{item.what:16}{item.digest[:19]}  {item.size:>12}  {told}"


def _wants(found: Description) -> Iterator[str]:
    if found.cpus:
        yield f"{found.cpus} CPUs"
    if found.memory:
        yield f"{human(found.memory)} of memory"
    if found.virtualization:
        yield f"virtualization {found.virtualization}"
    yield from found.devices
