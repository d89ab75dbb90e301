"""Steps of a build: each is named by the hash of its inputs, and skipped when its output is there.

An output is a file or a directory in the cache, published whole by a rename: builds may share a
cache, also at the same time. What is in it is not changed any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_KEPT: Final = 20
"""Outputs of a step that are kept, the latest used."""

Inputs = dict[str, object]
"""What shapes an output, as JSON values."""


def key_of(inputs: Inputs) -> str:
    """32 hex digits; the same for the same inputs."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hash_files(*paths: Path) -> str:
    """Of names and contents of files, and of all files in directories.

    Raises FileNotFoundError: what is not there shapes nothing.
    """
    digest = hashlib.sha256()
    for top in paths:
        top.stat()
        found = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in found:
            if "__pycache__" in path.parts or path.name.startswith("."):
                continue
            name = path.name if path == top else str(path.relative_to(top))
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}\0{content}\0{path.stat().st_mode & 0o111:o}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Done:
    """A step's output. `key`: of its inputs, so an input of what is made of it."""

    path: Path
    key: str


@dataclass
class Cache:
    """`say`: told which step is at work, and how long it took."""

    directory: Path
    say: Callable[[str], None] = field(default=lambda text: None)

    def step(self, name: str, inputs: Inputs, make: Callable[[Path], None]) -> Done:
        """`make` is given a path that does not exist yet, and makes a file or a directory there."""
        key = key_of({"step": name, **inputs})
        home = self.directory / name
        path = home / key
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with self._alone(home / f".{key}.lock"):
                if not path.exists():
                    self._make(name, path, make)
                    self._forget_old(home)
        os.utime(path)
        return Done(path, key)

    def _make(self, name: str, path: Path, make: Callable[[Path], None]) -> None:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as scratch:
            fresh = Path(scratch) / "output"
            make(fresh)
            os.rename(fresh, path)
        self.say(f"{name}: {time.monotonic() - began:.1f} s")

    @staticmethod
    @contextlib.contextmanager
    def _alone(path: Path) -> Iterator[None]:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        path.unlink(missing_ok=True)

    @staticmethod
    def _forget_old(home: Path) -> None:
        """What was not used for long goes; one that another build uses was used just now."""
        outputs = [path for path in home.iterdir() if not path.name.startswith(".")]
        outputs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in outputs[_KEPT:]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
