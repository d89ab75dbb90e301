"""The two slots of the operating system: their states, what is in them, and writing one of them.

States are kept in GRUB's environment block on the EFI System partition and changed by writing one
sector in place: a power cut leaves the old states or the new ones, and no file system's table is
touched, now or ever. Nobody mounts that partition while the node runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from edgevirt.host.boot.release import Release
from edgevirt.host.disk import grubenv, squashfs
from edgevirt.host.disk.fat import FatError, locate
from edgevirt.model.baseos import SlotState
from edgevirt.model.disk import ENVIRONMENT, Label

CHUNK: Final = 1 << 20
_RELEASE: Final = "etc/edgevirt-release"
_RELEASES: Final = msgspec.json.Decoder(Release)
_BLKFLSBUF: Final = 0x1261

Progress = Callable[[int], None]
"""Called with the bytes done so far; raises to stop."""


class SlotError(Exception):
    """«cannot X: why». Worth another try unless the medium is worn out."""


class Slots(Protocol):
    """Every method blocks; callers with an event loop use a thread. All raise SlotError.

    current  label of the slot that the machine runs from.
    labels   all there are, in order.
    """

    @property
    def current(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def states(self) -> dict[str, SlotState]:
        """As they are on the disk."""
        ...

    def set_states(self, states: Mapping[str, SlotState]) -> None:
        """Changes these, together, durably; after a power cut all are as before or as wanted."""
        ...

    def size(self, label: str) -> int:
        """Bytes that fit in."""
        ...

    def device(self, label: str) -> str: ...

    def version(self, label: str) -> str:
        """Of the image in it; empty when there is none that can be read."""
        ...

    def write(self, label: str, source: Path, progress: Progress) -> None:
        """The bytes of `source`, durably. Never over the slot that the machine runs from."""
        ...

    def digest(self, label: str, length: int, progress: Progress) -> str:
        """SHA-256 (lower-case hex) of the first `length` bytes, as they are on the medium."""
        ...


class DiskSlots(msgspec.Struct, frozen=True):
    """`partitions`: device by label, the EFI System partition among them."""

    current: str
    partitions: Mapping[str, Path]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for label in (Label.IMGA, Label.IMGB) if label in self.partitions)

    def states(self) -> dict[str, SlotState]:
        _, block = self._read_block()
        try:
            found = grubenv.parse(block)
        except grubenv.BlockError as error:
            raise SlotError(str(error)) from error
        return {label: _state(found.get(label, "")) for label in self.labels}

    def set_states(self, states: Mapping[str, SlotState]) -> None:
        offset, block = self._read_block()
        try:
            variables = grubenv.parse(block)
        except grubenv.BlockError:
            variables = {}  # boots the first slot anyhow; whole again it says what is so
        variables.update({label: str(state.value) for label, state in states.items()})
        try:
            sector = grubenv.render(variables)[: grubenv.SECTOR]
            fd = os.open(self._esp, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, sector, offset)
                os.fsync(fd)
            finally:
                os.close(fd)
        except (OSError, grubenv.BlockError) as error:
            raise SlotError(f"cannot change the slots' states: {error}") from error

    def size(self, label: str) -> int:
        try:
            with self.partitions[label].open("rb") as file:
                return file.seek(0, os.SEEK_END)
        except OSError as error:
            raise SlotError(f"cannot measure {label}: {error}") from error

    def device(self, label: str) -> str:
        return str(self.partitions[label])

    def version(self, label: str) -> str:
        try:
            with self.partitions[label].open("rb") as file:
                text = squashfs.read_file(file, _RELEASE)
            return _RELEASES.decode(text).version
        except (OSError, squashfs.SquashfsError, msgspec.DecodeError):
            return ""

    def write(self, label: str, source: Path, progress: Progress) -> None:
        if label == self.current:
            raise SlotError(f"cannot write to {label}: the node runs from it")
        try:
            with source.open("rb") as image, self.partitions[label].open("r+b", 0) as slot:
                done = 0
                while chunk := image.read(CHUNK):
                    view = memoryview(chunk)
                    while view:
                        view = view[slot.write(view) or 0 :]
                    done += len(chunk)
                    # what waits to be written must not fill the memory, nor the last step take all
                    os.fdatasync(slot.fileno())
                    progress(done)
                os.fsync(slot.fileno())
        except OSError as error:
            raise SlotError(f"cannot write {source.name} to {label}: {error}") from error

    def digest(self, label: str, length: int, progress: Progress) -> str:
        summed, done = hashlib.sha256(), 0
        try:
            with self.partitions[label].open("rb", 0) as slot:
                _forget_cached(slot.fileno())
                while done < length:
                    chunk = slot.read(min(CHUNK, length - done))
                    if not chunk:
                        raise SlotError(f"cannot read {label} back: it ends after {done} bytes")
                    summed.update(chunk)
                    done += len(chunk)
                    progress(done)
        except OSError as error:
            raise SlotError(f"cannot read {label} back: {error}") from error
        return summed.hexdigest()

    @property
    def _esp(self) -> Path:
        try:
            return self.partitions[Label.ESP]
        except KeyError:
            raise SlotError("cannot find the slots' states: no EFI System partition") from None

    def _read_block(self) -> tuple[int, bytes]:
        """Where the block's first sector is, and that sector."""
        try:
            with self._esp.open("rb") as file:
                clusters, _ = locate(file, ENVIRONMENT)
                if not clusters:
                    raise SlotError("cannot find the slots' states: the environment is empty")
                file.seek(clusters[0])
                return clusters[0], file.read(grubenv.SECTOR)
        except (OSError, FatError) as error:
            raise SlotError(f"cannot find the slots' states: {error}") from error


def _state(text: str) -> SlotState:
    """What GRUB does not know it does not boot."""
    try:
        return SlotState(text)
    except ValueError:
        return SlotState.UNUSED


def _forget_cached(fd: int) -> None:
    """The medium is to be asked, not the memory of what was just written."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        fcntl.ioctl(fd, _BLKFLSBUF)
    except OSError:
        return  # a regular file in tests; or not root's, then the advice has to do
