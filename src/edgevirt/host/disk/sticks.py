"""Sticks that somebody plugs in for the node: found by their label, read and written by mtools.

The kernel mounts nothing: what is on a stick is a stranger's, and a FAT driver in the kernel is a
large thing to show it to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

LABEL: Final = "DevicePortConfig"
"""Of the partition, or of its file system, where there is room for 11 characters only."""
_LABELS: Final = frozenset({LABEL.upper(), LABEL[:11].upper(), "QEMU VVFAT"})
"""The last: a directory that QEMU shows a machine as a disk."""
_READ_MAX: Final = 1 << 20
_SECONDS: Final = 30.0
_ENVIRONMENT: Final = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": "/dev/null", "PATH": "/usr/bin:/bin"}


class StickError(Exception):
    """«cannot X: why»."""


class Sticks(Protocol):
    """A stick is named by its device. All raise StickError: it may just have been pulled."""

    async def find(self) -> Sequence[str]: ...

    async def read(self, stick: str, path: str) -> bytes | None:
        """None: there is no such file. At most 1 MiB of it."""
        ...

    async def has_directory(self, stick: str, path: str) -> bool: ...

    async def make_directory(self, stick: str, path: str) -> None:
        """Its parent is there. No error when it is, too."""
        ...

    async def write(self, stick: str, path: str, content: bytes) -> None:
        """In place of what was there."""
        ...


class MtoolsSticks:
    """`blocks`: /sys/class/block. `devices`: /dev."""

    def __init__(self, blocks: Path, devices: Path) -> None:
        self._blocks = blocks
        self._devices = devices

    async def find(self) -> Sequence[str]:
        return [name for name in self._candidates() if await self._bears_label(name)]

    async def read(self, stick: str, path: str) -> bytes | None:
        code, said = await self._run("mcopy", stick, "-n", f"::{path}", "-")
        return said if code == 0 else None

    async def has_directory(self, stick: str, path: str) -> bool:
        code, _ = await self._run("mdir", stick, "-b", f"::{path}/")
        return code == 0

    async def make_directory(self, stick: str, path: str) -> None:
        if not await self.has_directory(stick, path):
            await self._do("mmd", stick, "-D", "s", f"::{path}")

    async def write(self, stick: str, path: str, content: bytes) -> None:
        await self._do("mcopy", stick, "-o", "-", f"::{path}", content=content)

    def _candidates(self) -> Iterator[str]:
        """What can be pulled, and partitions that bear the name."""
        try:
            names = sorted(entry.name for entry in self._blocks.iterdir())
        except OSError:
            return
        for name in names:
            if self._partition_name(name) == LABEL or self._can_be_pulled(name):
                yield name

    def _can_be_pulled(self, name: str) -> bool:
        place = (self._blocks / name).resolve()
        disk = place.parent if (place / "partition").exists() else place
        if "/usb" in str(place):
            return True
        with contextlib.suppress(OSError):
            return (disk / "removable").read_text().strip() == "1"
        return False

    def _partition_name(self, name: str) -> str:
        with contextlib.suppress(OSError):
            for line in (self._blocks / name / "uevent").read_text().splitlines():
                if line.startswith("PARTNAME="):
                    return line.removeprefix("PARTNAME=")
        return ""

    async def _bears_label(self, name: str) -> bool:
        return self._partition_name(name) == LABEL or await self._label(name) in _LABELS

    async def _label(self, name: str) -> str:
        """Of a FAT file system, in capitals; empty where there is none."""
        code, said = await self._run("mlabel", name, "-s", "::")
        words = said.decode(errors="replace").partition("label is ")[2]
        return words.strip().upper() if code == 0 else ""

    async def _do(self, program: str, stick: str, *arguments: str, content: bytes = b"") -> None:
        code, said = await self._run(program, stick, *arguments, content=content)
        if code:
            why = " ".join(said.decode(errors="replace").split())[:200]
            raise StickError(f"cannot write to the stick {stick}: {why or f'exit code {code}'}")

    async def _run(
        self, program: str, stick: str, *arguments: str, content: bytes = b""
    ) -> tuple[int, bytes]:
        """Exit code, and what it wrote (what went wrong, if nothing else). Raises StickError."""
        command = [program, "-i", str(self._devices / stick), *arguments]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_ENVIRONMENT,
            )
        except OSError as error:
            raise StickError(f"cannot look at the stick {stick}: {error}") from error
        try:
            async with asyncio.timeout(_SECONDS):
                said, wrong = await process.communicate(content)
        except TimeoutError:
            raise StickError(f"cannot look at the stick {stick}: it takes too long") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, said[:_READ_MAX] or wrong
