"""The partitions of the disk that the machine booted from, and the making of missing ones.

They are found by what the table on the disk says: label and type. A new partition is cleared of
what its place held before, and only then entered into the table: what is found in a partition
later was put there by its user.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.disk.table import read_table
from edgevirt.model.disk import SLOTS, Label, partition
from edgevirt.model.gpt import Entry, Table, TableError, plan_missing

_BLOCK: Final = Path("/sys/class/block")
_NUMBERS: Final = Path("/sys/dev/block")
_CLEARED: Final = 4 << 20
"""Bytes at either end of a new partition: file systems are known by what stands there."""
_BLKPG, _BLKPG_ADD = 0x1269, 1
_RESCAN_SECONDS: Final = 2.0
_SGDISK_SECONDS: Final = 120.0


class DiskError(Exception):
    """«cannot X: why»."""


class Found(msgspec.Struct, frozen=True):
    """A partition as the kernel has it. `size`: bytes."""

    label: Label
    device: Path
    size: int


class BootDisk(msgspec.Struct, frozen=True):
    """A whole disk: `/dev/vda`."""

    device: Path

    @property
    def read_only(self) -> bool:
        """A CD is, or a stick with a switch."""
        try:
            return (_BLOCK / self.device.name / "ro").read_text().strip() == "1"
        except OSError:
            return False

    def find(self, label: Label) -> Found | None:
        """Raises TableError when the disk's table cannot be read."""
        entry = read_table(self.device).find(label)
        if entry is None:
            return None
        deadline = time.monotonic() + _RESCAN_SECONDS
        while (device := self._partition(entry.number)) is None and time.monotonic() < deadline:
            time.sleep(0.05)  # the kernel reads the table of a disk again: all are gone meanwhile
        return None if device is None else Found(label, device, entry.size)

    def add_missing(self, labels: Iterable[Label]) -> tuple[Label, ...]:
        """Makes those of `labels` that the disk lacks, as far as there is room. Returns which.

        Raises DiskError, TableError. After a power cut at any moment the table is whole, and what
        is still missing is made the next time.
        """
        labels = tuple(labels)
        if all(read_table(self.device).find(label) for label in labels):
            return ()
        self._sgdisk("--move-second-header")
        table = read_table(self.device)
        made = plan_missing(table, labels, _sizes(table))
        arguments = []
        for new in made:
            self._clear(new)
            arguments += [
                f"--new={new.number}:{new.first}:{new.last}",
                f"--typecode={new.number}:{new.type}",
                f"--change-name={new.number}:{new.label}",
            ]
        if made:
            self._sgdisk(*arguments)
        for new in made:
            self._tell_kernel(new)
        return tuple(Label(new.label) for new in made)

    def _partition(self, number: int) -> Path | None:
        for path in sorted((_BLOCK / self.device.name).resolve().iterdir()):
            try:
                if int((path / "partition").read_text()) == number:
                    return Path("/dev") / path.name
            except (OSError, ValueError):
                continue
        return None

    def _sgdisk(self, *arguments: str) -> None:
        try:
            done = subprocess.run(
                ["sgdisk", *arguments, str(self.device)],
                capture_output=True,
                text=True,
                timeout=_SGDISK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DiskError(f"cannot change the partition table: {error}") from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise DiskError(f"cannot change the partition table: {said}")

    def _clear(self, new: Entry) -> None:
        zeros = bytes(min(_CLEARED, new.size))
        try:
            fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, zeros, new.start)
                os.pwrite(fd, zeros, new.start + new.size - len(zeros))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise DiskError(f"cannot clear the place of {new.label}: {error}") from error

    def _tell_kernel(self, new: Entry) -> None:
        """The disk is in use, so the kernel does not read its table again by itself."""
        if self._partition(new.number) is not None:
            return
        entry = struct.pack("=qqi64s64s4x", new.start, new.size, new.number, b"", b"")
        buffer = ctypes.create_string_buffer(entry, len(entry))
        request = struct.pack("=iii4xQ", _BLKPG_ADD, 0, len(entry), ctypes.addressof(buffer))
        fd = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _BLKPG, request)
        except OSError as error:
            raise DiskError(f"cannot show {new.label} to the kernel: {error}") from error
        finally:
            os.close(fd)


def _sizes(table: Table) -> dict[Label, int]:
    """Bytes. The second slot is as large as the first."""
    first = table.find(Label.IMGA) or table.find(Label.IMGB)
    slot = first.size if first is not None else partition(Label.IMGA).size
    return {Label.IMGA: slot, Label.IMGB: slot, Label.P3: 0}


def boot_disk(root: Path = Path("/")) -> BootDisk:
    """The disk that `root`'s file system lies on. Raises DiskError when it is on none."""
    number = os.stat(root).st_dev
    return disk_of(f"{os.major(number)}:{os.minor(number)}")


def disk_of(number: str) -> BootDisk:
    """`number`: `major:minor` of a partition."""
    path = (_NUMBERS / number).resolve()
    if not (path / "partition").exists():
        raise DiskError(f"cannot find the disk: device {number} is no partition")
    return BootDisk(Path("/dev") / path.parent.name)


def data_disks(ours: BootDisk) -> list[BootDisk]:
    """Other disks of the machine with a partition for data and no slots: one with slots is another
    node's, and its data is no business of this one.
    """
    found = []
    for path in sorted(Path("/sys/block").iterdir()):
        if path.name == ours.device.name or path.name.startswith(("loop", "ram", "zram", "sr")):
            continue
        disk = BootDisk(Path("/dev") / path.name)
        try:
            table = read_table(disk.device)
        except TableError:
            continue
        if table.find(Label.P3) and not any(table.find(slot) for slot in SLOTS):
            found.append(disk)
    return found
