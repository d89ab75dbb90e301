"""Content on a node, with real parts: an image made here, Debian's registry, three services."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from content_world import ContentWorld, make_busybox_image
from docker_registry import PASSWORD, USER, DockerRegistry, docker_registry

from edgevirt.image.oci import Image, Pusher
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.node.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture
def world(tmp_path: Path) -> ContentWorld:
    (tmp_path / "persist").mkdir()
    return ContentWorld(Paths(tmp_path / "config", tmp_path / "persist", tmp_path / "run"))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry", basic=True) as running:
        yield running


async def push(registry: DockerRegistry, image: Image, name: str) -> None:
    pusher = Pusher(registry.host, USER, PASSWORD)
    try:
        await pusher.push(image, name)
    finally:
        await pusher.close()


def in_container(layers: tuple[str, ...], volume: str, where: Path, *command: str) -> str:
    """Runs a command on the image's root file system, as a domain would mount it."""
    where.mkdir()
    lower = ":".join(reversed(layers))
    options = f"lowerdir={lower},upperdir={volume}/upper,workdir={volume}/work,userxattr"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, where], check=True)
    try:
        done = subprocess.run(
            ["chroot", where, *command], check=True, capture_output=True, text=True
        )
        return done.stdout
    finally:
        subprocess.run(["umount", where], check=True)


async def test_an_image_becomes_a_volume_that_its_program_runs_on(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "apps/hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "apps/hello:1")
        volume = await world.want_volume(1, tree)
        made = await world.volume(volume)
        loaded = await world.tree(tree)
    assert loaded.progress == 100
    assert made.format == ContentFormat.CONTAINER
    assert made.image == ImageConfig(
        entrypoint=("/bin/sh", "-c"), cmd=("cat /etc/issue",), env=("A=1",)
    )
    said = in_container(made.layers, made.path, tmp_path / "m", "/bin/sh", "-c", "/bin/busybox cat /etc/*")
    assert said == "edge"


async def test_wrong_credentials_are_told_and_right_ones_taken_at_once(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, "wrong")
        tree = await world.want_image(1, "hello:1")
        from edgevirt.model.kinds import CONTENT_TREE_STATUS

        told = await world.until(
            CONTENT_TREE_STATUS, tree, lambda status: status is not None and bool(status.trouble)
        )
        assert told is not None
        assert told.trouble is not None
        assert "registry answered 401" in told.trouble.why
        assert "wrong" not in told.trouble.why
        await world.configure(registry.host, USER, PASSWORD)
        assert (await world.tree(tree)).trouble is None
