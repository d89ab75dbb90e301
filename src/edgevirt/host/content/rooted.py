"""A directory that names from outside cannot leave: every path is walked here, not by the kernel.

Nobody else writes to the directory meanwhile, so a walk with O_NOFOLLOW at each step is safe.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from edgevirt.host.files import remove_tree

MAX_PATH = 4096
MAX_LINKS = 40

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Outside(Exception):
    """«cannot X: why»: the name is not one of this directory."""


def split(name: str) -> tuple[str, ...]:
    """The components of a path, absolute ones anchored in the root. Raises Outside on `..`."""
    if len(name) > MAX_PATH:
        raise Outside(f"cannot use a path of {len(name)} characters: the bound is {MAX_PATH}")
    if "\0" in name:
        raise Outside("cannot use a path with a NUL in it")
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts:
        raise Outside(f"cannot use the path {name!r}: it has «..»")
    return parts


class Rooted:
    """Opens and makes directories below `root`, all root's and 0755 at first. Close it when
    done.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        _give_to_root(self._root)
        self._last: tuple[str, ...] = ()
        self._directory = os.dup(self._root)

    def close(self) -> None:
        os.close(self._root)
        os.close(self._directory)

    def directory(self, parts: tuple[str, ...], *, make: bool = True) -> int:
        """A descriptor of the directory `parts`, made where it is missing; valid until the next
        call. Symbolic links on the way lead where they would with `root` as `/`.

        Raises Outside, NotADirectoryError when a file is in the way, FileNotFoundError unless
        `make`.
        """
        if parts != self._last:
            descriptor = self._walk(parts, make)
            os.close(self._directory)
            self._directory, self._last = descriptor, parts
        return self._directory

    def _walk(self, parts: tuple[str, ...], make: bool) -> int:
        trail = [os.dup(self._root)]
        todo = list(reversed(parts))
        links = 0
        try:
            while todo:
                part = todo.pop()
                if part in {"", "."}:
                    continue
                if part == "..":
                    if len(trail) > 1:
                        os.close(trail.pop())
                    continue
                target = self._link_at(trail[-1], part)
                if target is None:
                    trail.append(_enter(trail[-1], part, make))
                    continue
                links += 1
                if links > MAX_LINKS or len(target) > MAX_PATH:
                    raise Outside(f"cannot follow {'/'.join(parts)!r}: too many symbolic links")
                if target.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                todo.extend(reversed(target.split("/")))
            return trail.pop()
        finally:
            for descriptor in trail:
                os.close(descriptor)

    @staticmethod
    def _link_at(directory: int, name: str) -> str | None:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return os.readlink(name, dir_fd=directory) if stat.S_ISLNK(found.st_mode) else None

    def remove(self, parts: tuple[str, ...]) -> None:
        """Removes what is at `parts`, whatever it is; nothing may be there."""
        directory = self.directory(parts[:-1])
        with suppress(FileNotFoundError):
            found = os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                remove_tree(Path(f"/proc/self/fd/{directory}/{parts[-1]}"))
            else:
                os.unlink(parts[-1], dir_fd=directory)


def _enter(directory: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        if not make:
            raise
        os.mkdir(name, dir_fd=directory)
        made = os.open(name, _DIRECTORY, dir_fd=directory)
        _give_to_root(made)
        return made


def _give_to_root(directory: int) -> None:
    os.fchown(directory, 0, 0)
    os.fchmod(directory, 0o755)
