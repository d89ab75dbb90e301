"""A pull over a line that breaks goes on where it stopped, and takes only the right bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgevirt.host.fetch import CannotFetch
from edgevirt.image.eci import registry
from edgevirt.image.eci.build import build
from edgevirt.image.eci.layout import Layout
from edgevirt.image.eci.spec import Disk, EciSpec
from edgevirt.model.ids import Digest
from edgevirt.wire import oci
from tests.parts.rough_server import Request, rough_server

HERE = oci.Platform("amd64", "linux")


@dataclass
class Rough:
    """A registry that serves a layout, badly. `cut`: bytes after which an answer ends, once for
    each blob. `lie`: what becomes of a blob's bytes.
    """

    layout: Layout
    cut: int = 0
    lie: Callable[[bytes], bytes] = bytes
    begun: list[int] = field(default_factory=list)
    cut_already: set[str] = field(default_factory=set)

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> None:
        place = request.path.rpartition("/")[2]
        root = Digest(self.layout.root().digest)
        digest = Digest(place) if oci.is_digest(place) else root
        data = self.layout.blob(digest).read_bytes()
        if "manifests" in request.path:
            headers = f"Docker-Content-Digest: {digest}\r\nContent-Type: {oci.MANIFEST}\r\n"
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode()
            )
            if request.method != "HEAD":
                writer.write(data)
            await writer.drain()
            return
        data = self.lie(data)
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        self.begun.append(start)
        status = f"206 P\r\nContent-Range: bytes {start}-{len(data) - 1}/{len(data)}"
        status = status if start else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(data) - start}\r\n\r\n".encode())
        rest = data[start:]
        if self.cut and len(rest) > self.cut and place not in self.cut_already:
            self.cut_already.add(place)
            rest = rest[: self.cut]
        writer.write(rest)
        await writer.drain()


def made(where: Path, size: int = 3_000_000) -> Layout:
    (where / "disk.raw").write_bytes(os.urandom(size))
    layout = Layout(where / "out")
    build(EciSpec(architecture="amd64", root=Disk(file="disk.raw")), where, layout)
    return layout


async def pulled(rough: Rough, where: Path, here: oci.Platform = HERE) -> tuple[Layout, Digest]:
    into = Layout(where / "in")
    async with rough_server(rough.serve) as server:
        remote = registry.parse_remote(f"{server.host}/apps/box:1")
        async with registry.source_of(remote) as source:
            told: list[tuple[str, int, int]] = []
            digest = await registry.pull(
                source, remote, into, here, lambda *progress: told.append(progress)
            )
    assert all(done <= total for _, done, total in told if total)
    return into, digest


async def test_a_pull_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rough = Rough(made(tmp_path), cut=1_200_000)
    into, digest = await pulled(rough, tmp_path)
    assert 1_200_000 in rough.begun
    assert digest == rough.layout.root().digest
    for path in rough.layout.blobs.iterdir():
        assert (into.blobs / path.name).read_bytes() == path.read_bytes()
    assert not (into.directory / ".parts").exists()


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    rough = Rough(made(tmp_path))
    await pulled(rough, tmp_path)
    before = len(rough.begun)
    await pulled(rough, tmp_path)
    assert len(rough.begun) == before


async def test_wrong_bytes_are_tried_once_more_and_then_refused(tmp_path: Path) -> None:
    def lie(data: bytes) -> bytes:
        return data[:-1] + b"!" if len(data) > 1_000_000 else data

    rough = Rough(made(tmp_path), lie=lie)
    with pytest.raises(ExceptionGroup) as group:
        await pulled(rough, tmp_path)
    assert group.group_contains(CannotFetch, match="serves other bytes")
    disk = hashlib.sha256((tmp_path / "disk.raw").read_bytes()).hexdigest()
    assert not (tmp_path / "in/blobs/sha256" / disk).exists()


async def test_more_bytes_than_announced_are_not_taken(tmp_path: Path) -> None:
    rough = Rough(made(tmp_path, 10_000), lie=lambda data: data + b"x" * 5_000_000)
    with pytest.raises(ExceptionGroup) as group:
        await pulled(rough, tmp_path)
    assert group.group_contains(CannotFetch, match="more than")


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b:1"),
        ("docker://registry.local/a", "registry.local", "a"),
        ("lfedge/eve:1", "docker.io", "lfedge/eve:1"),
        ("busybox", "docker.io", "library/busybox"),
        ("localhost/a", "localhost", "a"),
    ],
)
def test_references_are_read_as_everywhere(text: str, host: str, name: str) -> None:
    assert registry.parse_remote(text) == registry.Remote(host, name)


@pytest.mark.parametrize(
    "text", ["", "/", "a b", "h.local/../x", "h.local/a@sha256:zz", "h.local/"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(CannotFetch, match="not REPOSITORY"):
        registry.parse_remote(text)
