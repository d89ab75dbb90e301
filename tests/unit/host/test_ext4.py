"""A file system grows while it is mounted: on a kernel where this process has all rights."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

from edgevirt.host.big_files import make_ext4
from edgevirt.host.ext4 import Layout
from edgevirt.host.files import DiskError
from tests.kernel.debian_kernel import on_debian_kernel

REPOSITORY = Path(__file__).parents[3]
MODULES = ("block/loop.ko", "/ext4.ko", "crc32c_generic.ko", "crc32c-intel.ko")
MIB = 1 << 20


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_mounted_file_systems_grow_to_any_size_and_keep_what_is_in_them(tmp_path: Path) -> None:
    python = ("/usr/bin/env", f"PYTHONPATH={REPOSITORY}", sys.executable)
    said = on_debian_kernel(
        tmp_path, (*python, "-m", "tests.kernel.on_growing_file_systems"), modules=MODULES
    )
    told = json.loads(said.splitlines()[-1])
    for begin in (8 * MIB, 40 * MIB):
        steps = told[str(begin)]
        assert [step["why"] for step in steps] == [""] * len(steps)
        for step in steps:
            assert step["file"] == step["size"]
            assert 0.8 < step["room"] / step["size"] < 1.0
        assert steps[0] == steps[1], "what is as big is left alone"
        assert told[f"whole {begin}"], "what was written is there"
    assert told["filled"][0] == ""
    assert told["filled"][1] > 50 * MIB
    assert told["read only"] == ""
    assert told["blocks"] == 64 * MIB, "nobody writes to one that is only read"


async def test_a_superblock_says_how_big_its_file_system_is(tmp_path: Path) -> None:
    file = tmp_path / "volume"
    await make_ext4(file, 20 * MIB, "x")
    layout = Layout(file)
    assert layout.blocks * layout.block == 20 * MIB
    with open(file, "r+b") as opened:
        opened.seek(1024 + 0x18)
        opened.write(struct.pack("<I", 9))
    with pytest.raises(DiskError, match="makes no sense"):
        Layout(file)


def test_what_is_no_ext4_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "volume"
    for content in (b"", b"short", bytes(1 << 16)):
        file.write_bytes(content)
        with pytest.raises(DiskError, match=r"^cannot grow its file system: it is no ext4$"):
            Layout(file)
