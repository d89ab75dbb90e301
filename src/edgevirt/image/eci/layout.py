"""An OCI image layout: a directory with blobs under their digests and an index of what is in it.

skopeo, oras and crane read and write the same. What is read back is proven against its digest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import msgspec

from edgevirt.model.ids import Digest
from edgevirt.wire import oci
from edgevirt.wire.errors import BadDocument

_MARK = b'{"imageLayoutVersion":"1.0.0"}'
_BLOCK = 1024 * 1024
REF_NAME = "org.opencontainers.image.ref.name"


class LayoutError(Exception):
    """«cannot X: why»."""


class Layout:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs/sha256"

    def make(self) -> None:
        """An empty one, or what is there already. Raises LayoutError for another directory."""
        foreign = self.directory.exists() and not self.exists()
        if foreign and (not self.directory.is_dir() or any(self.directory.iterdir())):
            raise LayoutError(f"cannot write {self.directory}: it holds something else")
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.directory / "oci-layout").write_bytes(_MARK)

    def exists(self) -> bool:
        return (self.directory / "oci-layout").is_file()

    def blob(self, digest: Digest) -> Path:
        return self.blobs / oci.hex_of(digest)

    # -- writing --

    @contextmanager
    def writing(self) -> Iterator[BlobWriter]:
        """A blob that gets its name when it is whole."""
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.blobs)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                writer = BlobWriter(file)
                yield writer
            path.chmod(0o644)
            path.replace(self.blob(writer.digest))
        finally:
            path.unlink(missing_ok=True)

    def add(self, data: bytes) -> oci.Descriptor:
        with self.writing() as writer:
            writer.write(data)
        return oci.Descriptor(writer.digest, writer.size)

    def add_part(self, source: Path, offset: int = 0, size: int | None = None) -> oci.Descriptor:
        """`size` bytes (else all) of a file, from `offset` on."""
        left = source.stat().st_size - offset if size is None else size
        with source.open("rb") as file, self.writing() as writer:
            file.seek(offset)
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                writer.write(block)
                left -= len(block)
        if left > 0:
            raise LayoutError(f"cannot read {source}: it became shorter meanwhile")
        return oci.Descriptor(writer.digest, writer.size)

    def finish(self, root: oci.Descriptor, name: str = "latest") -> None:
        """The layout's one image, and nothing of what was there before."""
        named = msgspec.structs.replace(root, annotations={REF_NAME: name})
        index = oci.Document(schema_version=2, media_type=oci.INDEX, manifests=(named,))
        part = self.directory / ".index.json.new"
        part.write_bytes(oci.encode(index))
        part.replace(self.directory / "index.json")
        used = {oci.hex_of(digest) for digest in self.reachable(Digest(root.digest))}
        for path in self.blobs.iterdir():
            if path.name not in used:
                path.unlink()

    # -- reading --

    def root(self) -> oci.Descriptor:
        """Of the only image in it. Raises LayoutError, BadDocument."""
        path = self.directory / "index.json"
        if not self.exists() or not path.is_file():
            raise LayoutError(f"cannot read {self.directory}: it is no OCI layout")
        index = oci.parse_document(_bounded(path))
        if index.manifests is None or len(index.manifests) != 1:
            count = len(index.manifests or ())
            raise LayoutError(f"cannot read {self.directory}: it holds {count} images, not one")
        root = index.manifests[0]
        if not oci.is_digest(root.digest):
            raise BadDocument(f"cannot use {path}: {root.digest[:80]!r} is no sha256 digest")
        return root

    def read(self, digest: Digest) -> bytes:
        """A document, proven. Raises LayoutError."""
        path = self.blob(digest)
        try:
            data = _bounded(path)
        except OSError as error:
            raise LayoutError(f"cannot read {digest}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != oci.hex_of(digest):
            raise LayoutError(f"cannot use {path}: its bytes are not those of its digest")
        return data

    def prove(self, digest: Digest) -> None:
        """A blob of any size. Raises LayoutError."""
        path = self.blob(digest)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise LayoutError(f"cannot read {digest}: {error.strerror}") from error
        if found != oci.hex_of(digest):
            raise LayoutError(f"cannot use {path}: its bytes are not those of its digest")

    def reachable(self, root: Digest) -> set[Digest]:
        """All blobs of an image, its manifest included, as far as they are there."""
        found, todo = {root}, [root]
        while todo:
            path = self.blob(todo.pop())
            if not path.is_file() or path.stat().st_size > oci.MAX_DOCUMENT:
                continue
            try:
                document = oci.parse_document(path.read_bytes())
            except BadDocument:
                continue
            todo += [Digest(child.digest) for child in document.manifests or ()]
            below = (document.config, *(document.layers or ()), *(document.manifests or ()))
            found |= {Digest(child.digest) for child in below if child is not None}
        return {digest for digest in found if oci.is_digest(digest)}

    def free(self) -> int:
        return shutil.disk_usage(self.directory).free


class BlobWriter:
    """Hashes and counts what it writes; holes stay holes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def as_file(self) -> IO[bytes]:
        return cast(IO[bytes], self)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(oci.MAX_DOCUMENT + 1)
    if len(data) > oci.MAX_DOCUMENT:
        raise BadDocument(f"cannot use {path}: the bound is {oci.MAX_DOCUMENT} bytes")
    return data


Progress = Callable[[str, int, int], None]
"""(what, bytes so far, of how many; 0: nobody knows)."""
