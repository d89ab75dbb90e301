"""Root images that differ from the built one: a good newer version, and others that are bad, each
in its own way. Made by unpacking the image, changing it, and packing it again, quickly."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.os.os_system import IMAGES, artifact

RELEASE: Final = "etc/edgevirt-release"
SHELL: Final = "usr/bin/busybox"
KEPT: Final = ("EFI", "boot", "bin", "sbin", "proc", "sys", "dev", "run", RELEASE, SHELL)
"""Of an image that has to boot, and does nothing afterwards."""


def same(tree: Path) -> None:
    """Nothing but the version changes."""


def lean(tree: Path) -> None:
    """It lacks what a node without virtual machines and with a virtual card never uses: less to be
    fetched, written and measured by an emulated machine.
    """
    for name in ("usr/bin/qemu-system-x86_64", "usr/bin/qemu-img"):
        (tree / name).unlink()
    shutil.rmtree(tree / "usr/share/edgevirt")
    for cards in tree.glob("usr/lib/modules/*/kernel/drivers/net/ethernet"):
        shutil.rmtree(cards)


@dataclass(frozen=True)
class Variant:
    """`file`: its name in the directory that is served."""

    name: str
    version: str
    file: str
    sha256: str
    measurements: dict[str, list[str]]


class Workshop:
    """`directory`: where images come out."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self.directory = directory
        self._tree = scratch / "tree"
        directory.mkdir(parents=True)
        scratch.mkdir(parents=True)
        _run("unsquashfs", "-q", "-n", "-d", self._tree, IMAGES / artifact("root")["name"])
        self._release: dict[str, Any] = json.loads((self._tree / RELEASE).read_text())

    def make(self, name: str, change: Callable[[Path], None] = same) -> Variant:
        """The image with another version, after `change` had its way with the tree."""
        tree = self._tree.with_name(name)
        _run("cp", "-a", "--reflink=auto", self._tree, tree)
        version = f"{self._release['version']}-{name}"
        (tree / RELEASE).write_text(json.dumps({**self._release, "version": version}))
        change(tree)
        file = self.directory / f"{name}.img"
        fast = ("-comp", "gzip", "-Xcompression-level", "1", "-no-fragments")
        plain = ("-noappend", "-quiet", "-no-progress", "-no-xattrs", "-no-exports")
        _run("mksquashfs", tree, file, *plain, *fast)
        shutil.rmtree(tree)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        known = json.loads((IMAGES / "manifest.json").read_text()).get("measurements", {})
        register = hashlib.sha256(bytes(32) + bytes.fromhex(digest)).hexdigest()
        return Variant(name, version, file.name, digest, {**known, "13": [register]})


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- what is bad about it --------------------------------------------------------------------------


def panics(tree: Path) -> None:
    """Process 1 ends, at which the kernel panics."""
    _be_process_1(tree, "exit 1\n")


def hangs(tree: Path) -> None:
    """Process 1 does nothing at all, and nobody feeds the watchdog."""
    _be_process_1(tree, "while :; do /bin/busybox sleep 3600; done\n")


def no_services(tree: Path) -> None:
    """The supervisor fails whenever it starts, at once: what it would load takes its time."""
    lean(tree)
    broken = "    raise OSError('broken on purpose')\n"
    _edit(tree, "node/supervisor/start.py", "    memory.leave_out()\n", broken)


def unreachable(tree: Path) -> None:
    """The agent asks where nobody answers."""
    lean(tree)
    _edit(tree, "node/agent/link.py", "/api/v2/edgedevice", "/api/nowhere/edgedevice")


def _be_process_1(tree: Path, text: str) -> None:
    """A small image: what is fetched, written and read back takes a moment."""
    small = tree.with_name(f"{tree.name}-small")
    for name in KEPT:
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(small / name)
    shutil.rmtree(tree)
    small.rename(tree)
    path = tree / "usr/sbin/init"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/busybox sh\n{text}")
    path.chmod(0o755)


def _edit(tree: Path, name: str, old: str, new: str) -> None:
    """Of our code; the compiled file beside it goes."""
    [path] = [p for p in tree.rglob(Path(name).name) if str(p).endswith(_physical(name))]
    text = path.read_text()
    assert old in text, f"{name} changed: this test cannot break it any more"
    path.write_text(text.replace(old, new))
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _physical(name: str) -> str:
    """A service's code lies in a directory of its own, `/containers/services/<service>`."""
    return "/".join(Path(name).parts[-2:])
