"""Makes an OCI image of a directory and pushes it to a registry.

Enough to give a node something to run: one layer for each directory, a config, a manifest.
The same input makes the same bytes, so the same digests.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlencode, urljoin

from edgevirt.host.fetch.registry import Reference, Registry, parse_reference
from edgevirt.host.fetch.source import Access, CannotFetch, Timeouts
from edgevirt.model.content import Datastore, DatastoreType, ImageConfig
from edgevirt.model.ids import DatastoreId, Digest
from edgevirt.wire import oci

_CHUNK = 1024 * 1024


class CannotPush(Exception):
    """«cannot push X: why»."""


@dataclass(frozen=True)
class Layer:
    """A gzipped tar at `path`; `diff_id`: digest of the tar."""

    path: Path
    digest: Digest
    diff_id: Digest
    size: int


@dataclass(frozen=True)
class Image:
    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> Digest:
        return digest_of(self.manifest)


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def pack_layer(directory: Path, into: Path) -> Layer:
    """Writes what is in `directory` to the file `into`, owned by root, without times."""
    with open(into, "wb") as file:
        packed = _Hashed(file)
        with gzip.GzipFile("", "wb", 6, cast(IO[bytes], packed), mtime=0) as zipped:
            plain = _Hashed(zipped)
            with tarfile.open(
                fileobj=cast(IO[bytes], plain), mode="w|", format=tarfile.PAX_FORMAT
            ) as tar:
                for path in sorted(directory.rglob("*")):
                    name = str(path.relative_to(directory))
                    tar.add(path, name, recursive=False, filter=_anonymous)
    return Layer(into, packed.digest, plain.digest, into.stat().st_size)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


class _Hashed:
    """Writes on and hashes what it writes."""

    def __init__(self, target: IO[bytes] | gzip.GzipFile) -> None:
        self._target = target
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()


def make_image(
    layers: Iterable[Layer],
    image: ImageConfig,
    here: oci.Platform | None = None,
    annotations: dict[str, str] | None = None,
) -> Image:
    """An image of `layers`, lowest first, for this machine unless `here` names another."""
    layers = tuple(layers)
    here = here or oci.machine()
    config = oci.encode(
        oci.Config(
            architecture=here.architecture,
            os=here.os,
            variant=here.variant,
            config=oci.Process(
                entrypoint=image.entrypoint,
                cmd=image.cmd,
                env=image.env,
                working_dir=image.workdir,
                user=image.user,
            ),
            rootfs=oci.RootFs(diff_ids=tuple(layer.diff_id for layer in layers)),
        )
    )
    manifest = oci.encode(
        oci.Document(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=oci.Descriptor(digest_of(config), len(config), oci.CONFIG),
            layers=tuple(
                oci.Descriptor(layer.digest, layer.size, oci.LAYER_GZIP) for layer in layers
            ),
            annotations=annotations or None,
        )
    )
    return Image(config, manifest, layers)


def make_index(images: Iterable[tuple[Image, oci.Platform]]) -> bytes:
    """An index of images of one program for several machines."""
    return oci.encode(
        oci.Document(
            schema_version=2,
            media_type=oci.INDEX,
            manifests=tuple(
                oci.Descriptor(image.digest, len(image.manifest), oci.MANIFEST, platform)
                for image, platform in images
            ),
        )
    )


class Pusher:
    """Pushes to one registry. `host`: `HOST[:PORT]`. Close it when done.

    `told`: of each blob (digest, bytes sent, of how many), as they go.
    """

    def __init__(
        self,
        host: str,
        user: str = "",
        password: str = "",
        ca_pem: tuple[str, ...] = (),
        told: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._told = told
        store = Datastore(
            id=DatastoreId(host),
            type=DatastoreType.CONTAINER_REGISTRY,
            fqdn=f"docker://{host}",
            ca_pem=ca_pem,
        )
        self._registry = Registry(
            Access(store, user, password), Timeouts(stalled=60.0), actions="pull,push"
        )

    async def close(self) -> None:
        await self._registry.web.close()

    async def push(self, image: Image, name: str) -> Digest:
        """`name`: `REPOSITORY[:TAG]`. Returns the manifest's digest. Raises CannotPush."""
        with _pushing(name):
            where = parse_reference(name)
            for layer in image.layers:
                await self._push_file(where, layer.digest, layer.path)
            config = image.config
            await self._push_blob(where, digest_of(config), len(config), partial(_yield, config))
            await self._push_manifest(where, where.tag, image.manifest, oci.MANIFEST)
        return image.digest

    async def push_files(
        self, name: str, files: Iterable[tuple[Digest, Path]], manifest: bytes, media_type: str
    ) -> Digest:
        """Files under their digests, then the manifest (or index) that names them."""
        with _pushing(name):
            where = parse_reference(name)
            for digest, path in files:
                await self._push_file(where, digest, path)
            await self._push_manifest(where, where.tag, manifest, media_type)
        return digest_of(manifest)

    async def push_index(self, images: Iterable[tuple[Image, oci.Platform]], name: str) -> Digest:
        """Pushes the images, then the index that chooses among them, tagged."""
        images = tuple(images)
        index = make_index(images)
        with _pushing(name):
            where = parse_reference(name)
            for image, _ in images:
                await self.push(image, f"{where.repository}@{image.digest}")
            await self._push_manifest(where, where.tag, index, oci.INDEX)
        return digest_of(index)

    async def _push_file(self, where: Reference, digest: Digest, path: Path) -> None:
        size = (await asyncio.to_thread(path.stat)).st_size
        await self._push_blob(where, digest, size, partial(self._read, digest, path, size))

    async def _read(self, digest: Digest, path: Path, size: int) -> AsyncIterator[bytes]:
        done = 0
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk
                done += len(chunk)
                if self._told is not None:
                    self._told(digest, done, size)

    async def _push_blob(
        self,
        where: Reference,
        digest: Digest,
        size: int,
        content: Callable[[], AsyncIterator[bytes]],
    ) -> None:
        """In one piece, unless the registry has it already."""
        base = f"{self._registry.url}/v2/{where.repository}/blobs"
        if await self._ask("HEAD", where, f"{base}/{digest}", {200, 404}) == 200:
            return
        async with self._registry.ask(
            where.repository, f"{base}/uploads/", {}, method="POST"
        ) as answer:
            if answer.status_code != 202:
                raise CannotFetch(await self._registry.web.refusal(answer, base, "registry"))
            target = urljoin(f"{base}/uploads/", answer.headers.get("location", ""))
        target += ("&" if "?" in target else "?") + urlencode({"digest": digest})
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        await self._ask("PUT", where, target, {201, 204}, headers, content)

    async def _push_manifest(self, where: Reference, tag: str, data: bytes, kind: str) -> None:
        place = where.digest or tag
        url = f"{self._registry.url}/v2/{where.repository}/manifests/{place}"
        headers = {"Content-Length": str(len(data)), "Content-Type": kind}
        await self._ask("PUT", where, url, {201}, headers, partial(_yield, data))

    async def _ask(
        self,
        method: str,
        where: Reference,
        url: str,
        good: set[int],
        headers: dict[str, str] | None = None,
        content: Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> int:
        async with self._registry.ask(
            where.repository, url, headers or {}, method=method, content=content
        ) as answer:
            if answer.status_code not in good:
                raise CannotFetch(await self._registry.web.refusal(answer, url, "registry"))
            return answer.status_code


@contextmanager
def _pushing(name: str) -> Iterator[None]:
    try:
        yield
    except CannotFetch as failure:
        raise CannotPush(f"cannot push {name}: {failure}") from failure


async def _yield(data: bytes) -> AsyncIterator[bytes]:
    yield data
