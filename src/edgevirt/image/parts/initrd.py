"""The initial file system: busybox, a few modules, and a script that finds and measures the root.

An archive in the kernel's own format (newc), made here so that the same files make the same bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from backports import zstd

_LEVEL = 19


def pack(root: Path, epoch: int) -> bytes:
    """`root`'s files, owned by root, all of one time, compressed."""
    parts = []
    for number, path in enumerate(_walk(root), 1):
        parts.append(_member(number, str(path.relative_to(root)), path, epoch))
    parts.append(_header(0, 0, 0, 1, 0, "TRAILER!!!"))
    archive = b"".join(parts)
    archive += bytes(-len(archive) % 512)
    return zstd.compress(archive, _LEVEL)


def _walk(root: Path) -> Iterator[Path]:
    return iter(sorted(root.rglob("*")))


def _member(number: int, name: str, path: Path, epoch: int) -> bytes:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        mode, content = 0o120777, os.fsencode(os.readlink(path))
    elif stat.S_ISDIR(status.st_mode):
        mode, content = 0o040755, b""
    else:
        mode, content = 0o100755 if status.st_mode & 0o111 else 0o100644, path.read_bytes()
    links = 2 if stat.S_ISDIR(status.st_mode) else 1
    head = _header(number, mode, epoch, links, len(content), name)
    return head + content + bytes(-len(content) % 4)


def _header(number: int, mode: int, epoch: int, links: int, size: int, name: str) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, links, epoch, size, 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4)
