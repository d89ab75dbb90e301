"""Run on a kernel where this process has all rights: file systems grow while they are mounted.

Prints in JSON what comes of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from edgevirt.host import ext4, mounts
from edgevirt.host.big_files import make_ext4

FILE, PLACE = Path("/mnt/volume"), Path("/mnt/place")
MIB = 1 << 20
SIZES = (64 * MIB, 64 * MIB, 200 * MIB, 512 * MIB + 5 * 4096, 1024 * MIB + 512, 40 << 30)


def room(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize


def grow(size: int) -> dict[str, Any]:
    try:
        mounts.enlarge(PLACE, FILE, size)
    except mounts.MountError as error:
        return {"size": size, "why": str(error)}
    return {"size": size, "file": FILE.stat().st_size, "room": room(PLACE), "why": ""}


def check() -> bool:
    """Nothing is wrong in it, and what was written is there."""
    subprocess.run(["e2fsck", "-fn", FILE], check=True, capture_output=True)
    mounts.image(PLACE, FILE, readonly=True)
    kept = (PLACE / "notes").read_text() == "kept"
    mounts.unmount_below(PLACE)
    return kept


def main() -> None:
    PLACE.mkdir()
    told: dict[str, Any] = {}
    for begin in (8 * MIB, 40 * MIB):
        asyncio.run(make_ext4(FILE, begin, "volume"))
        mounts.image(PLACE, FILE, readonly=False)
        (PLACE / "notes").write_text("kept")
        told[str(begin)] = [grow(size) for size in SIZES]
        mounts.unmount_below(PLACE)
        told[f"whole {begin}"] = check()

    asyncio.run(make_ext4(FILE, 8 * MIB, "volume"))
    os.truncate(FILE, 64 * MIB)
    mounts.image(PLACE, FILE, readonly=False)
    told["filled"] = (mounts.fill(PLACE), room(PLACE))
    mounts.unmount_below(PLACE)
    os.truncate(FILE, 128 * MIB)
    mounts.image(PLACE, FILE, readonly=True)
    told["read only"] = mounts.fill(PLACE)
    mounts.unmount_below(PLACE)
    told["blocks"] = ext4.Layout(FILE).blocks * ext4.Layout(FILE).block
    print(json.dumps(told))


if __name__ == "__main__":
    main()
