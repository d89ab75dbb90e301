"""Unpacks Debian packages into a tree: their files, none of their scripts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edgevirt.image.programs import ProgramError

MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Since Debian 12 they are links to what is below /usr."""


def make_merged(root: Path) -> None:
    """An empty tree with the links that every package relies on."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        link = root / name
        if not link.is_symlink():
            link.symlink_to(f"usr/{name}")


def unpack(packages: Iterable[Path], root: Path, *, only: Iterable[str] = ()) -> None:
    """`only`: patterns of members as tar has them (`./boot/*`); none: everything.

    Raises ProgramError.
    """
    make_merged(root)
    wanted = ["--wildcards", *only] if only else []
    for package in packages:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as opened:
            done = subprocess.run(
                [
                    *("tar", "--extract", "--directory", str(root), "--keep-directory-symlink"),
                    *("--no-same-owner", "--preserve-permissions", *wanted),
                ],
                stdin=opened.stdout,
                capture_output=True,
                check=False,
            )
        if done.returncode != 0 or opened.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or "dpkg-deb failed"
            raise ProgramError(f"cannot unpack {package.name}: {said.splitlines()[0]}")


def remove(root: Path, patterns: Iterable[str]) -> None:
    """Removes what matches, whole directories included."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
