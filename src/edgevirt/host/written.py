"""Which volumes a virtual machine could write to, block by block.

Such a file system is the guest's word in every byte, and the node's kernel does not mount it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.app import DomainVolume
from edgevirt.model.content import ContentFormat

_MARK: Final = "user.edgevirt.written"


def mark_written(volumes: Iterable[DomainVolume]) -> None:
    """Before a machine gets them. Raises OSError."""
    for index, volume in enumerate(volumes):
        # a container's own image gets directories to mount on, whoever may write to it
        if not volume.readonly or (index == 0 and volume.format == ContentFormat.CONTAINER):
            os.setxattr(volume.path, _MARK, b"machine")


def check_unwritten(path: str) -> None:
    """Before the node mounts it. Raises UnfitError, OSError."""
    try:
        os.getxattr(path, _MARK)
    except OSError as failure:
        if failure.errno in {errno.ENODATA, errno.ENOTSUP}:
            return
        raise
    raise UnfitError(
        "cannot run: a virtual machine wrote to its volumes, and this node's kernel does not mount"
        " what a guest wrote; purge the app to run it without virtualization"
    )
