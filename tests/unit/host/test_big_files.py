"""Copies, file systems in files, and tools that fail."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from edgevirt.host.big_files import copy_sparse, make_ext4, run
from edgevirt.host.files import DiskError, room

MIB = 1024 * 1024


async def test_a_copy_keeps_holes_and_shares_no_later_write(tmp_path: Path) -> None:
    source, copied = tmp_path / "source", tmp_path / "copy"
    with open(source, "wb") as file:
        file.truncate(64 * MIB)
        file.seek(MIB)
        file.write(b"data")
    await copy_sparse(source, copied)
    source.write_bytes(b"changed")
    assert copied.stat().st_size == 64 * MIB
    assert copied.stat().st_blocks * 512 < MIB
    with open(copied, "rb") as file:
        file.seek(MIB)
        assert file.read(4) == b"data"


async def test_a_tool_that_fails_tells_what_it_said() -> None:
    with pytest.raises(DiskError, match=r"cannot run cp: exit 1: .*nothing"):
        await run("cp", "--", "/nothing", "/nowhere")
    with pytest.raises(DiskError, match="no-such-tool: it is not installed"):
        await run("no-such-tool")


@pytest.mark.root
async def test_a_full_file_system_in_a_file_is_full_by_itself(tmp_path: Path) -> None:
    disk, mounted = tmp_path / "disk", tmp_path / "mounted"
    await make_ext4(disk, 16 * MIB, "volume-label-that-is-long")
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mounted], check=True)
    try:
        assert mounted.stat().st_uid == 0
        with pytest.raises(OSError, match="No space left") as full:
            (mounted / "big").write_bytes(bytes(17 * MIB))
        assert full.value.errno == errno.ENOSPC
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert disk.stat().st_size == 16 * MIB
    assert room(tmp_path).free > 0
