"""Layers as one disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.files import DiskError

pytestmark = pytest.mark.root


@pytest.fixture
def layers(tmp_path: Path) -> tuple[str, str]:
    """Two: a file that its owner alone may read, and what hides it."""
    lower, upper = tmp_path / "aa", tmp_path / "bb"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/secret").write_text("hush\n")
    (lower / "etc/secret").chmod(0o400)
    os.chown(lower / "etc/secret", 1234, 2345)
    (upper / "etc").mkdir(parents=True)
    os.mknod(upper / "etc/secret", 0o020000, os.makedev(0, 0))
    os.setxattr(upper / "etc", "user.overlay.opaque", b"y")
    return str(lower), str(upper)


@pytest.fixture
def packed(tmp_path: Path) -> PackedLayers:
    made = PackedLayers(tmp_path / "packed")
    made.begin()
    return made


def listed(disk: Path) -> list[str]:
    """Lines of mode, owner and name."""
    command = ["unsquashfs", "-lln", "-d", "", str(disk)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    fields = [line.split() for line in done.stdout.splitlines()]
    return [" ".join((one[0], one[1], one[-1])) for one in fields if len(one) > 5]


async def test_each_layer_is_a_directory_with_all_that_overlays_need(
    packed: PackedLayers, layers: tuple[str, str]
) -> None:
    found = listed(await packed.make(layers))
    assert "-r-------- 1234/2345 /aa/etc/secret" in found
    assert any(line.startswith("c---------") and "/bb/etc/secret" in line for line in found)


async def test_a_single_layer_is_a_directory_too(
    packed: PackedLayers, layers: tuple[str, str]
) -> None:
    assert "-r-------- 1234/2345 /aa/etc/secret" in listed(await packed.make(layers[:1]))


async def test_the_same_layers_are_packed_once(
    packed: PackedLayers, layers: tuple[str, str]
) -> None:
    first = await packed.make(layers)
    made = first.stat().st_ino
    assert (await packed.make(layers)).stat().st_ino == made
    assert await packed.make(layers[::-1]) != first


async def test_what_is_not_wanted_goes_and_what_is_stays(
    packed: PackedLayers, layers: tuple[str, str]
) -> None:
    one, other = await packed.make(layers), await packed.make(layers[:1])
    assert packed.size() == one.stat().st_size + other.stat().st_size
    packed.keep([layers[:1]])
    assert (one.exists(), other.exists()) == (False, True)


async def test_layers_that_are_gone_leave_nothing(packed: PackedLayers, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot pack"):
        await packed.make([str(tmp_path / "missing")])
    assert list((tmp_path / "packed").iterdir()) == []


async def test_what_a_crash_left_half_made_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/.x.squashfs").touch()
    PackedLayers(tmp_path / "packed").begin()
    assert list((tmp_path / "packed").iterdir()) == []
