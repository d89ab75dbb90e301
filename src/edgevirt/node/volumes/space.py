"""How much disk is left to promise. Volumes count in full, whatever they hold yet."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edgevirt.host.files import Room
from edgevirt.model.kinds import BLOB_STATUS
from edgevirt.node.properties import number
from edgevirt.runtime import Inputs

_MEGABYTE = 1024 * 1024
_LOG_SHARE = 10
"""Percent of the disk that logs may take at most."""

_WRITABLE_LEAST, _WRITABLE_MOST = 64 * _MEGABYTE, 1024 * _MEGABYTE
_WRITABLE_SHARE = 4


class Promise(msgspec.Struct, frozen=True):
    """What a volume may take, and how much of it lies on the disk already. Bytes."""

    size: int
    taken: int = 0


def remaining(room: Room, promised: Iterable[Promise], inputs: Inputs) -> int:
    """Bytes for further volumes: the disk, less the node's own part, the blobs and what other
    volumes were promised; and never more than is free, less what they will still take of that:
    in host mode the disk is not the node's alone.

    The reader declares BLOB_STATUS and PROPERTY.
    """
    promised = tuple(promised)
    blobs = sum(blob.size + blob.unpacked for blob in inputs.all(BLOB_STATUS).values())
    own = room.total - reserved(room.total, inputs) - blobs - sum(one.size for one in promised)
    free = room.free - sum(max(0, one.size - one.taken) for one in promised)
    return max(0, min(own, free))


def writable_size(wanted: int, left: int) -> int:
    """Bytes that a container may write over its image's layers. Where nothing is `wanted` (0), a
    quarter of what is `left` to promise, up to 1 GiB; in any case enough for an app to start.
    """
    share = min(left // _WRITABLE_SHARE, _WRITABLE_MOST)
    return max(wanted or share, _WRITABLE_LEAST)


def reserved(total: int, inputs: Inputs) -> int:
    """The node's own part: its logs, and a fifth of a small disk or 2 GiB of a big one."""
    quota = number(inputs, "newlog.gzipfiles.ondisk.maxmegabytes") * _MEGABYTE
    logs = min(quota, total * _LOG_SHARE // 100)
    share = total * number(inputs, "storage.dom0.disk.minusage.percent") // 100
    return logs + min(share, number(inputs, "storage.dom0.disk.maxusagebytes"))
