"""Images between a directory and a registry. A pull that broke off goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgevirt.host.content.partial import Partial
from edgevirt.host.fetch import (
    Access,
    BeyondEnd,
    CannotFetch,
    Source,
    Timeouts,
    Wanted,
    open_source,
)
from edgevirt.host.fetch.registry import parse_reference
from edgevirt.host.files import remove_tree
from edgevirt.image.eci.layout import Layout, LayoutError, Progress
from edgevirt.image.eci.logins import login_of
from edgevirt.image.eci.oci import Pusher
from edgevirt.model.content import BlobRole, Datastore, DatastoreType
from edgevirt.model.ids import DatastoreId, Digest
from edgevirt.wire import oci

T = TypeVar("T")

TRIES = 5
_STALLED = 60.0
_AT_ONCE = 3
"""Blobs side by side."""


class TooMuch(CannotFetch):
    """More bytes than were announced: another try brings the same."""


@dataclass(frozen=True)
class Remote:
    """`HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, as people write it."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def repository(self) -> str:
        return parse_reference(self.name).repository


def parse_remote(text: str, *, named: bool = False) -> Remote:
    """Without a host it is Docker Hub's, as everywhere, unless the registry must be `named`: where
    a path may be given too, its typing error is nothing to ask others for. Raises CannotFetch.
    """
    path = len(text) > 1 and text.startswith(("/", "./", "../"))
    text = text.removeprefix("docker://").removeprefix("oci://")
    if not text:
        raise CannotFetch("cannot fetch '': not REPOSITORY[:TAG][@DIGEST]")
    first, slash, rest = text.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", text if slash else f"library/{text}"
        if named and not path:
            raise CannotFetch(
                f"cannot find {text}: no directory is named so, and no registry is named; Docker "
                f"Hub's is {first}/{rest}"
            )
    if path:
        raise CannotFetch(f"cannot find {text}: there is no such directory")
    parse_reference(rest)
    return Remote(first, rest)


def _access(remote: Remote, ca_pem: tuple[str, ...]) -> Access:
    user, password = login_of(remote.host)
    store = Datastore(
        id=DatastoreId(remote.host),
        type=DatastoreType.CONTAINER_REGISTRY,
        fqdn=f"docker://{remote.host}",
        ca_pem=ca_pem,
    )
    return Access(store, user, password)


@asynccontextmanager
async def source_of(remote: Remote, ca_pem: tuple[str, ...] = ()) -> AsyncIterator[Source]:
    """Raises LoginError."""
    source = open_source(_access(remote, ca_pem), Timeouts(stalled=_STALLED))
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def pusher_to(
    remote: Remote, ca_pem: tuple[str, ...] = (), told: Progress | None = None
) -> AsyncIterator[Pusher]:
    """Raises LoginError."""
    user, password = login_of(remote.host)
    pusher = Pusher(remote.host, user, password, ca_pem, told)
    try:
        yield pusher
    finally:
        await pusher.close()


# -- pushing --------------------------------------------------------------------------------------


async def push(layout: Layout, remote: Remote, pusher: Pusher) -> Digest:
    """What the layout holds, proven on the way. Raises LayoutError, BadDocument, CannotPush."""
    root = layout.root()
    data = layout.read(Digest(root.digest))
    document = oci.parse_document(data)
    for child in document.manifests or ():
        where = f"{remote.repository}@{child.digest}"
        await _push_manifest(layout, where, layout.read(Digest(child.digest)), pusher)
    return await _push_manifest(layout, remote.name, data, pusher)


async def _push_manifest(layout: Layout, name: str, data: bytes, pusher: Pusher) -> Digest:
    document = oci.parse_document(data)
    files = []
    for child in (*(document.layers or ()), document.config):
        if child is None:
            continue
        if not oci.is_digest(child.digest):
            raise LayoutError(f"cannot push {name}: {child.digest[:80]!r} is no sha256 digest")
        digest = Digest(child.digest)
        await asyncio.to_thread(layout.prove, digest)
        files.append((digest, layout.blob(digest)))
    kind = oci.INDEX if document.manifests is not None else oci.MANIFEST
    return await pusher.push_files(name, files, data, document.media_type or kind)


# -- pulling --------------------------------------------------------------------------------------


async def pull(
    source: Source, remote: Remote, layout: Layout, here: oci.Platform, told: Progress
) -> Digest:
    """The image for the machine `here`, and nothing else, into `layout`. Raises CannotFetch,
    BadDocument, LayoutError, DiskFull.
    """
    layout.make()
    fetching = _Fetching(source, remote, layout, told)
    root = await retry(lambda: source.resolve(remote.name))
    data = await fetching.document(root, is_manifest=True)
    chosen = oci.parse_manifest(data, here).children
    if len(chosen) == 1 and chosen[0].role == BlobRole.MANIFEST:
        root = chosen[0].digest
        data = await fetching.document(root, is_manifest=True)
    document = oci.parse_document(data)
    if document.manifests is not None:
        raise CannotFetch(f"cannot fetch {remote}: an index within an index")
    oci.parse_manifest(data, here)
    wanted = {child.digest: child for child in (document.config, *(document.layers or ())) if child}
    await fetching.all(list(wanted.values()))
    fetching.end()
    media_type = document.media_type or oci.MANIFEST
    layout.finish(oci.Descriptor(root, len(data), media_type), parse_reference(remote.name).tag)
    return root


async def read_manifest(
    source: Source, remote: Remote, layout: Layout, here: oci.Platform
) -> tuple[Digest, Digest]:
    """Only what tells about an image: (digest of what the reference names, of its manifest)."""
    layout.make()
    fetching = _Fetching(source, remote, layout, _silent)
    root = await retry(lambda: source.resolve(remote.name))
    data = await fetching.document(root, is_manifest=True)
    digest = root
    children = oci.parse_manifest(data, here).children
    if len(children) == 1 and children[0].role == BlobRole.MANIFEST:
        digest = children[0].digest
        data = await fetching.document(digest, is_manifest=True)
    config = oci.parse_document(data).config
    if config is not None and config.size <= oci.MAX_DOCUMENT and oci.is_digest(config.digest):
        await fetching.document(Digest(config.digest), is_manifest=False)
    fetching.end()
    layout.finish(oci.Descriptor(digest, len(data), oci.MANIFEST))
    return root, digest


async def retry(work: Callable[[], Awaitable[T]]) -> T:
    """A network that stumbles gets some more tries, further and further apart."""
    for attempt in range(1, TRIES):
        try:
            return await work()
        except CannotFetch as failure:
            if isinstance(failure, TooMuch) or _is_refusal(failure):
                raise
        await asyncio.sleep(0.5 * 2**attempt)
    return await work()


def _is_refusal(failure: CannotFetch) -> bool:
    words = str(failure)
    return any(f"answered {code}" in words for code in (400, 401, 403, 404, 405))


class _Fetching:
    """Blobs of one repository into one layout."""

    def __init__(self, source: Source, remote: Remote, layout: Layout, told: Progress) -> None:
        self._source = source
        self._remote = remote
        self._layout = layout
        self._told = told
        self._parts = layout.directory / ".parts"
        self._parts.mkdir(exist_ok=True)

    def end(self) -> None:
        """All is there: what is left of attempts goes."""
        remove_tree(self._parts)

    async def document(self, digest: Digest, *, is_manifest: bool) -> bytes:
        await self._blob(digest, oci.MAX_DOCUMENT, exact=False, is_manifest=is_manifest)
        return self._layout.read(digest)

    async def all(self, wanted: list[oci.Descriptor]) -> None:
        for child in wanted:
            if not oci.is_digest(child.digest) or not 0 <= child.size <= oci.MAX_BLOB:
                raise CannotFetch(f"cannot fetch {self._remote}: a blob {child.digest[:80]!r}")
        missing = sum(
            child.size for child in wanted if not self._layout.blob(Digest(child.digest)).exists()
        )
        if missing > self._layout.free():
            raise LayoutError(
                f"cannot fetch {self._remote}: {missing} bytes needed, {self._layout.free()} free"
            )
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(child: oci.Descriptor) -> None:
            async with slots:
                await self._blob(Digest(child.digest), child.size, exact=True)

        async with asyncio.TaskGroup() as group:
            for child in wanted:
                group.create_task(one(child))

    async def _blob(
        self, digest: Digest, size: int, *, exact: bool, is_manifest: bool = False
    ) -> None:
        """Whole and proven. `size`: its bytes, or (not `exact`) how many it may have."""
        if self._layout.blob(digest).exists():
            return
        partial = Partial(self._parts, oci.hex_of(digest))
        for last in (False, True):
            await retry(lambda: self._receive(partial, digest, size, exact, is_manifest))
            if await asyncio.to_thread(_hash_of, partial.whole) == oci.hex_of(digest):
                os.replace(partial.whole, self._layout.blob(digest))
                self._layout.blob(digest).chmod(0o644)
                return
            partial.discard()
            if last:
                raise CannotFetch(f"cannot use {digest}: the registry serves other bytes under it")

    async def _receive(
        self, partial: Partial, digest: Digest, size: int, exact: bool, is_manifest: bool
    ) -> None:
        if partial.whole_size() is not None:
            return
        offset = partial.size()
        if exact and offset == size:
            await partial.finish()
            return
        wanted = Wanted(self._remote.name, digest, is_manifest)
        try:
            async with (
                self._source.open(wanted, offset) as transfer,
                partial.append(transfer.offset) as writer,
            ):
                async for chunk in transfer.chunks:
                    if writer.size + len(chunk) > size:
                        raise TooMuch(f"cannot fetch {digest}: more than {size} bytes")
                    await writer.write(chunk)
                    self._told(digest, writer.size, size if exact else 0)
        except BeyondEnd:
            partial.discard()
            raise
        if exact and writer.size != size:
            raise CannotFetch(f"cannot fetch {digest}: it ended at byte {writer.size} of {size}")
        await partial.finish()


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(what: str, done: int, total: int) -> None:
    pass
