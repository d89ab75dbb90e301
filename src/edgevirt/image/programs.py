"""Runs the programs of a build: this machine's, and the locked tools by their own loader."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.image.errors import ImageError

_LOADERS: Final = ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1")


class ProgramError(ImageError):
    """«cannot X: why»."""


def run(
    *command: str | Path, stdin: bytes | None = None, inherit: bool = False, **environment: str
) -> bytes:
    """What it printed. Raises ProgramError with what it said last.

    `inherit`: it gets our environment; otherwise next to nothing of it.
    """
    program = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            check=False,
            env={**os.environ, **environment} if inherit else _environment(environment),
        )
    except FileNotFoundError:
        raise ProgramError(f"cannot run {program}: it is not installed") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"it ended with {done.returncode}"
        raise ProgramError(f"cannot go on: {program}: {why}")
    return done.stdout


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Little of ours, so that nothing of it shapes what is made."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {"PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC", **more}


@dataclass(frozen=True)
class Tools:
    """Programs in an unpacked tree of packages, for this machine's architecture."""

    root: Path
    epoch: int

    def run(self, program: str, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        """Raises ProgramError."""
        loader = next(self.root / name for name in _LOADERS if (self.root / name).exists())
        places = sorted({str(path.parent) for path in (self.root / "usr/lib").rglob("*.so.*")})
        found = next(self.root.glob(f"usr/*bin/{program}"), None)
        if found is None:
            raise ProgramError(f"cannot run {program}: the locked tools do not have it")
        libraries = ":".join(places)
        command = (loader, "--library-path", libraries, "--argv0", program, found, *arguments)
        if program == "mksquashfs":  # it is told its times, and refuses to be told twice
            return run(*command, stdin=stdin)
        return run(*command, stdin=stdin, MTOOLS_SKIP_CHECK="1", SOURCE_DATE_EPOCH=str(self.epoch))
