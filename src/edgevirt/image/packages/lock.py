"""The lock: which packages an image is made of, by version and hash. Text, kept in the repository.

One package a line: group, name, version, architecture, archive, size, SHA-256, path in the archive.
No mirror's name stands in it: that is the building machine's own business. Its `epoch` is the time
of every file of the image.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from edgevirt.image.errors import ImageError

LOCKS: Final = Path(__file__).parent / "locks"
HEADER: Final = (
    "# Debian packages by hash. Made by `edgevirt image lock`; not edited by hand.\n"
    "# group name version architecture archive size sha256 path\n"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class LockError(ImageError):
    """«cannot read the lock: why»."""


@dataclass(frozen=True, order=True)
class Package:
    """One locked package. `archive`: `debian` or `debian-security`; `path`: within it."""

    group: str
    name: str
    version: str
    arch: str
    archive: str
    size: int
    sha256: str
    path: str

    @property
    def file(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Lock:
    """`epoch`: when it was made, in seconds since 1970."""

    epoch: int
    packages: tuple[Package, ...]

    def group(self, *names: str) -> tuple[Package, ...]:
        return tuple(package for package in self.packages if package.group in names)


def read_lock(name: str) -> Lock:
    """One of ours. Raises LockError."""
    try:
        text = (LOCKS / f"{name}.lock").read_text()
    except OSError:
        raise LockError(
            f"cannot build: there is no lock for {name}; make one with `edgevirt image lock`"
        ) from None
    return parse_lock(text)


def parse_lock(text: str) -> Lock:
    """Raises LockError."""
    found = []
    epoch = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if fields[0] == "epoch" and len(fields) == 2 and fields[1].isdecimal():
            epoch = int(fields[1])
            continue
        if len(fields) != 8 or not fields[5].isdecimal() or not _SHA256.fullmatch(fields[6]):
            raise LockError(f"cannot read the lock: line {number} is not a package")
        group, name, version, arch, archive, size, sha256, path = fields
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise LockError(f"cannot read the lock: line {number} has no path within an archive")
        found.append(Package(group, name, version, arch, archive, int(size), sha256, path))
    if not epoch:
        raise LockError("cannot read the lock: it has no epoch")
    return Lock(epoch, tuple(found))


def format_lock(lock: Lock) -> str:
    lines = (" ".join(map(str, astuple(package))) for package in sorted(lock.packages))
    return f"{HEADER}epoch {lock.epoch}\n" + "".join(f"{line}\n" for line in lines)
