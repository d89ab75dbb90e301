"""Signs images in a registry, and proves signatures there, by key; as cosign does both."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.fetch import CannotFetch, Source, Wanted
from edgevirt.image.eci.layout import Layout
from edgevirt.image.eci.oci import Pusher, digest_of
from edgevirt.image.eci.registry import Remote, retry
from edgevirt.model.ids import Digest
from edgevirt.wire import cosign, oci
from edgevirt.wire.errors import BadDocument


class NotSigned(Exception):
    """«cannot accept X: why»."""


async def sign(
    source: Source, pusher: Pusher, remote: Remote, key: ec.EllipticCurvePrivateKey
) -> Digest:
    """Adds a signature to those that the image has; returns the image's digest. The same key
    signs once. Raises CannotFetch, CannotPush, BadDocument.
    """
    digest = await retry(lambda: source.resolve(remote.name))
    tag = f"{remote.repository}:{cosign.tag_of(digest)}"
    payload = cosign.make_payload(f"{remote.host}/{remote.repository}", digest)
    pem = cosign.public_pem(key)
    kept, layers = await _existing(source, remote, tag)
    for layer in layers:
        data = kept[Digest(layer.digest)]
        signature = (layer.annotations or {}).get(cosign.ANNOTATION, "")
        if _signs(data, digest) and cosign.proves(data, signature, pem):
            return digest
    if len(layers) >= cosign.MAX_SIGNATURES:
        raise BadDocument(f"cannot sign {remote}: it has {len(layers)} signatures")
    annotations = {cosign.ANNOTATION: cosign.sign(payload, key)}
    new = oci.Descriptor(digest_of(payload), len(payload), cosign.PAYLOAD, annotations=annotations)
    kept[digest_of(payload)] = payload
    every = (*layers, new)
    config = oci.encode(
        oci.Config(rootfs=oci.RootFs(diff_ids=tuple(layer.digest for layer in every)))
    )
    kept[digest_of(config)] = config
    manifest = oci.encode(
        oci.Document(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=oci.Descriptor(digest_of(config), len(config), oci.CONFIG),
            layers=every,
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        layout = Layout(Path(scratch))
        layout.make()
        for data in kept.values():
            layout.add(data)
        files = [(name, layout.blob(name)) for name in kept]
        await pusher.push_files(tag, files, manifest, oci.MANIFEST)
    return digest


async def verify(source: Source, remote: Remote, keys: tuple[str, ...]) -> tuple[Digest, list[str]]:
    """(the image's digest, those of `keys` (PEM) that signed it). Raises NotSigned, CannotFetch,
    BadDocument, BadKey.
    """
    digest = await retry(lambda: source.resolve(remote.name))
    tag = f"{remote.repository}:{cosign.tag_of(digest)}"
    kept, layers = await _existing(source, remote, tag)
    if not layers:
        raise NotSigned(f"cannot accept {remote}: nobody signed {digest}")
    found = []
    for key in keys:
        for layer in layers:
            data = kept[Digest(layer.digest)]
            signature = (layer.annotations or {}).get(cosign.ANNOTATION, "")
            if _signs(data, digest) and cosign.proves(data, signature, key):
                found.append(key)
                break
    if not found:
        raise NotSigned(
            f"cannot accept {remote}: none of its {len(layers)} signatures is by a given key"
        )
    return digest, found


def _signs(data: bytes, digest: Digest) -> bool:
    with contextlib.suppress(BadDocument):
        return cosign.parse_payload(data) == digest
    return False


async def _existing(
    source: Source, remote: Remote, tag: str
) -> tuple[dict[Digest, bytes], list[oci.Descriptor]]:
    """(what was signed, by digest; the layers that carry signatures)."""
    try:
        where = await source.resolve(tag)
    except CannotFetch as failure:
        if "answered 404" in str(failure):
            return {}, []
        raise
    data = await _small(source, Wanted(tag, where, is_manifest=True), oci.MAX_DOCUMENT)
    layers = [
        layer
        for layer in oci.parse_document(data).layers or ()
        if layer.media_type == cosign.PAYLOAD and oci.is_digest(layer.digest)
    ][: cosign.MAX_SIGNATURES]
    kept: dict[Digest, bytes] = {}
    for layer in layers:
        digest = Digest(layer.digest)
        if digest not in kept:
            wanted = Wanted(remote.name, digest)
            kept[digest] = await _small(source, wanted, cosign.MAX_PAYLOAD)
    return kept, layers


async def _small(source: Source, wanted: Wanted, most: int) -> bytes:
    """A whole document, proven. Raises CannotFetch."""
    data = bytearray()
    async with source.open(wanted, 0) as transfer:
        async for chunk in transfer.chunks:
            data += chunk
            if len(data) > most:
                raise CannotFetch(f"cannot fetch {wanted.digest}: more than {most} bytes")
    if digest_of(bytes(data)) != wanted.digest:
        raise CannotFetch(f"cannot use {wanted.digest}: the registry serves other bytes under it")
    return bytes(data)
