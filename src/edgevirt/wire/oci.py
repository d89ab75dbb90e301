"""OCI and Docker image documents: bytes ⇄ nouns. What comes from a registry is hostile.

Formats: OCI image-spec 1.1 (manifest, index, config) and Docker's «v2, schema 2». A digest is
always sha256; documents are bounded before they get here and again here.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from edgevirt.model.content import BlobChild, BlobRole, ImageConfig
from edgevirt.model.eci import Declared, Part
from edgevirt.model.ids import Digest
from edgevirt.wire import cosign, eci
from edgevirt.wire.errors import BadDocument as BadDocument

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

CONFIGS = frozenset({CONFIG, "application/vnd.docker.container.image.v1+json"})
"""Media types of what tells for which machine an image is."""
MANIFESTS = frozenset({MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX})
"""Media types of what a registry keeps under `manifests/`."""
MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes. The bound that registries themselves keep."""
MAX_CHILDREN = 1000
MAX_BLOB = 1 << 50

T = TypeVar("T")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def hex_of(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Document(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A manifest (config and layers) or an index (manifests)."""

    schema_version: int
    media_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None


class Process(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """`config` of an image config."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    labels: dict[str, str] | None = None


class RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()
    type: str = "layers"


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: Process | None = None
    rootfs: RootFs = RootFs()


_decode_document = msgspec.json.Decoder(Document).decode
_decode_config = msgspec.json.Decoder(Config).decode
encode = msgspec.json.Encoder().encode


def machine() -> Platform:
    """This machine, in the registry's words."""
    architecture, variant = {
        "x86_64": ("amd64", ""),
        "aarch64": ("arm64", "v8"),
        "armv7l": ("arm", "v7"),
        "riscv64": ("riscv64", ""),
    }.get(platform.machine(), (platform.machine(), ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


_NOTHING_DECLARED = Declared()


class Manifest(msgspec.Struct, frozen=True):
    """`children`: of an index the one manifest for a machine; of a manifest its config, if that
    is of use, then its layers, lowest first. Of an Edge Container Image the config is there to
    tell its machine, and layers that are no part of it are left out.
    """

    children: tuple[BlobChild, ...]
    declared: Declared = _NOTHING_DECLARED

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(child.part for child in self.children if child.part is not None)


def platform_of(architecture: str) -> Platform:
    """A Linux machine of an architecture by its name in registries."""
    variant = {"arm64": "v8", "arm": "v7"}.get(architecture, "")
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_document(data: bytes) -> Document:
    """A manifest or an index, as far as its form goes. Raises BadDocument."""
    document = _parse(data, _decode_document, "manifest")
    if document.schema_version != 2:
        raise BadDocument(f"cannot use a manifest of schema {document.schema_version}: it is not 2")
    return document


def parse_manifest(data: bytes, here: Platform) -> Manifest:
    """What a manifest or an index points to. Raises BadDocument."""
    document = parse_document(data)
    if document.manifests is not None:
        if document.layers is not None or document.config is not None:
            raise BadDocument("cannot use a manifest that is an index as well")
        chosen = _choose(document.manifests, here)
        return Manifest((_child(chosen, BlobRole.MANIFEST),))
    if document.layers is None:
        raise BadDocument("cannot use a manifest without layers")
    if len(document.layers) > MAX_CHILDREN:
        raise BadDocument(f"cannot use a manifest of {len(document.layers)} layers")
    parts = eci.number_disks(
        [eci.part_of(layer.media_type, layer.annotations or {}) for layer in document.layers]
    )
    declared = eci.declared_by(document.annotations or {})
    if any(part is not None for part in parts):
        return Manifest(_eci_children(document, parts, declared), declared)
    layers = tuple(_layer(layer) for layer in document.layers)
    if document.config is not None:
        layers = (_child(document.config, BlobRole.CONFIG), *layers)
    return Manifest(layers, declared)


def _eci_children(
    document: Document, parts: Iterable[Part | None], declared: Declared
) -> tuple[BlobChild, ...]:
    """The list of uncompressed layers in an ECI's config tells nothing; its machine does."""
    children = []
    for layer, part in zip(document.layers or (), parts, strict=True):
        if part is not None:
            role = BlobRole.LAYER if part.file else BlobRole.FILE
            children.append(_child(layer, role, part))
    eci.check_parts([(child.part, child.size) for child in children if child.part], declared)
    if document.config is not None and document.config.media_type in CONFIGS:
        return (_child(document.config, BlobRole.MACHINE), *children)
    return tuple(children)


def _layer(descriptor: Descriptor) -> BlobChild:
    if descriptor.media_type == cosign.PAYLOAD:
        return _child(descriptor, BlobRole.PAYLOAD)
    return _child(descriptor, BlobRole.LAYER)


def parse_config(data: bytes, here: Platform) -> tuple[ImageConfig, tuple[Digest, ...]]:
    """How to run an image, and the digests of its uncompressed layers, lowest first.

    Raises BadDocument, also for an image of another machine.
    """
    config = _parse(data, _decode_config, "image config")
    found = Platform(config.architecture, config.os, config.variant)
    if (found.architecture or found.os) and not _fits(found, here):
        raise BadDocument(
            f"cannot use an image for {_words(found)}: this machine is {_words(here)}"
        )
    _check_diff_ids(config)
    process = config.config or Process()
    image = ImageConfig(
        entrypoint=process.entrypoint or (),
        cmd=process.cmd or (),
        env=process.env or (),
        workdir=process.working_dir or "/",
        user=process.user,
    )
    return image, tuple(Digest(diff_id) for diff_id in config.rootfs.diff_ids)


def parse_labels(data: bytes) -> tuple[tuple[str, str], ...]:
    """Of an image config: where the parts of an ECI are among its files. Raises BadDocument."""
    process = _parse(data, _decode_config, "image config").config or Process()
    return eci.parts_of_labels(process.labels or {})


def parse_platform(data: bytes) -> Platform:
    """Of an image config: the machine that it is for. Raises BadDocument."""
    config = _parse(data, _decode_config, "image config")
    return Platform(config.architecture[:40], config.os[:40], config.variant[:40])


def check_machine(data: bytes, here: Platform) -> None:
    """Refuses the config of a machine of another architecture. Which system made the image, and
    is named in it, doesn't matter. Raises BadDocument.
    """
    config = _parse(data, _decode_config, "image config")
    found = Platform(config.architecture, here.os, config.variant)
    if config.architecture and not _fits(found, here):
        raise BadDocument(
            f"cannot use an image for {_words(found)}: this machine is {_words(here)}"
        )


def _check_diff_ids(config: Config) -> None:
    for diff_id in config.rootfs.diff_ids:
        if not is_digest(diff_id):
            raise BadDocument(f"cannot use an image config: {diff_id[:80]!r} is no sha256 digest")


def _parse(data: bytes, decode: Callable[[bytes], T], what: str) -> T:
    if len(data) > MAX_DOCUMENT:
        raise BadDocument(f"cannot use a {what} of {len(data)} bytes: the bound is {MAX_DOCUMENT}")
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise BadDocument(f"cannot use a {what}: {failure}") from failure


def _choose(manifests: Iterable[Descriptor], here: Platform) -> Descriptor:
    offered = [item for item in manifests if item.platform is not None]
    fitting = [item for item in offered if item.platform and _fits(item.platform, here)]
    if not fitting:
        words = sorted({_words(item.platform) for item in offered if item.platform})
        raise BadDocument(
            f"cannot use an index: no image for {_words(here)} among {', '.join(words[:20]) or '-'}"
        )
    same = [item for item in fitting if item.platform and item.platform.variant == here.variant]
    return (same or fitting)[0]


def _fits(found: Platform, here: Platform) -> bool:
    if (found.os, found.architecture) != (here.os, here.architecture):
        return False
    if here.architecture == "arm":  # a v6 image runs on v7, not the other way round
        return found.variant <= here.variant
    return True


def _words(found: Platform) -> str:
    return "/".join(part[:40] for part in (found.os, found.architecture, found.variant) if part)


def _child(descriptor: Descriptor, role: BlobRole, part: Part | None = None) -> BlobChild:
    if not is_digest(descriptor.digest):
        raise BadDocument(f"cannot use a manifest: {descriptor.digest[:80]!r} is no sha256 digest")
    if not 0 <= descriptor.size <= MAX_BLOB:
        raise BadDocument(f"cannot use a manifest: a blob of {descriptor.size} bytes")
    signature = (descriptor.annotations or {}).get(cosign.ANNOTATION, "")
    return BlobChild(
        digest=Digest(descriptor.digest),
        role=role,
        size=descriptor.size,
        media_type=descriptor.media_type[:200],
        part=part,
        signature=signature[:200] if role == BlobRole.PAYLOAD else "",
    )
