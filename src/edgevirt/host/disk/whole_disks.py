"""The disks of this machine: what they are, and the first and last mebibyte of what they hold."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.model.disk import MIB, SECTOR

_BLOCKS: Final = Path("/sys/block")
_NO_DISKS: Final = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock")
_NO_DATA: Final = ("boot0", "boot1", "rpmb")
"""Of an eMMC: areas for firmware."""
_SETTLED: Final = 2.0
"""Seconds without a new disk: the buses have shown what is behind them."""


class WholeDisk(msgspec.Struct, frozen=True):
    """`size`: bytes; `sector`: bytes of a logical one."""

    name: str
    size: int
    sector: int
    model: str
    serial: str
    removable: bool
    read_only: bool

    @property
    def device(self) -> Path:
        return Path("/dev") / self.name


def list_disks(blocks: Path = _BLOCKS) -> tuple[WholeDisk, ...]:
    """Those that have a medium, by name."""
    return tuple(_disk(path) for path in sorted(blocks.iterdir()) if _is_disk(path))


def await_disks(seconds: float, wanted: frozenset[str] = frozenset()) -> tuple[WholeDisk, ...]:
    """As soon as those that are wanted are there and no further one came for a while; what there
    is when `seconds` are over.
    """
    deadline = time.monotonic() + seconds
    found, since = list_disks(), time.monotonic()
    while time.monotonic() < deadline:
        now = list_disks()
        if now != found:
            found, since = now, time.monotonic()
        elif wanted <= {d.name for d in found} and time.monotonic() - since >= _SETTLED:
            break
        time.sleep(0.1)
    return found


def read_ends(device: Path) -> tuple[bytes, bytes]:
    """The first and the last mebibyte. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        return os.pread(fd, MIB, 0), os.pread(fd, MIB, max(size - MIB, 0))
    finally:
        os.close(fd)


def _is_disk(path: Path) -> bool:
    name = path.name
    return (
        not name.startswith(_NO_DISKS)
        and not name.endswith(_NO_DATA)
        and _text(path / "size") not in ("", "0")
    )


def _disk(path: Path) -> WholeDisk:
    return WholeDisk(
        name=path.name,
        size=int(_text(path / "size")) * SECTOR,
        sector=int(_text(path / "queue/logical_block_size") or SECTOR),
        model=_text(path / "device/model") or _text(path / "device/name"),
        serial=_text(path / "serial") or _text(path / "device/serial"),
        removable=_text(path / "removable") == "1" or "/usb" in str(path.resolve()),
        read_only=_text(path / "ro") == "1",
    )


def _text(path: Path) -> str:
    """Empty where the kernel doesn't tell."""
    with contextlib.suppress(OSError):
        return " ".join(path.read_text(errors="replace").split())
    return ""


def partitions_of(disk: str, blocks: Path = _BLOCKS) -> Iterator[str]:
    """Names of a disk's partitions, as the kernel has them."""
    for path in sorted((blocks / disk).resolve().iterdir()):
        if (path / "partition").exists():
            yield path.name
