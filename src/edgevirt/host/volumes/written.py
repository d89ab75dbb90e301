"""Which volumes others wrote block by block: a virtual machine, or who made the image of a disk.

Such a file system is their word in every byte, and the node's kernel does not mount it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import DomainVolume

_MARK: Final = "user.edgevirt.written"
_IMAGE: Final = b"image"


def mark_written(volumes: Iterable[DomainVolume]) -> None:
    """Before a machine gets them. Raises OSError."""
    for index, volume in enumerate(volumes):
        # a container's own image gets directories to mount on, whoever may write to it
        if not volume.readonly or (index == 0 and volume.format == ContentFormat.CONTAINER):
            os.setxattr(volume.path, _MARK, b"machine")


def mark_foreign(path: Path) -> None:
    """A disk as it was downloaded. Raises OSError."""
    os.setxattr(path, _MARK, _IMAGE)


def carry_mark(source: Path, target: Path) -> None:
    """A copy of what others wrote is that, too. Raises OSError."""
    mark = _mark_of(source)
    if mark:
        os.setxattr(target, _MARK, mark)


def check_unwritten(path: str) -> None:
    """Before the node mounts it. Raises UnfitError, OSError."""
    mark = _mark_of(Path(path))
    if not mark:
        return
    if mark == _IMAGE:
        raise UnfitError(
            "cannot run: a volume of it is a disk from an image, and this node's kernel does not"
            " mount what it did not make; run it in a virtual machine, or have the image as files"
        )
    raise UnfitError(
        "cannot run: a virtual machine wrote to its volumes, and this node's kernel does not mount"
        " what a guest wrote; purge the app to run it without virtualization"
    )


def _mark_of(path: Path) -> bytes:
    """Empty: none."""
    try:
        return os.getxattr(path, _MARK)
    except OSError as failure:
        if failure.errno in {errno.ENODATA, errno.ENOTSUP}:
            return b""
        raise
