"""The kernel of an image, and the modules that it comes with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edgevirt.image.packages.unpack import unpack
from edgevirt.image.parts.initrd import pack
from edgevirt.image.parts.modules import EARLY, PRESENT, choose, parse_dependencies
from edgevirt.image.programs import Tools
from edgevirt.image.recipe import FILES

_INDEXES: Final = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_APPLETS: Final = (
    *("cat", "dd", "echo", "grep", "head", "hexdump", "kill", "losetup", "ls", "mkdir"),
    *("modprobe", "mount"),
    *("printf", "readlink", "sed", "sh", "sha256sum", "sleep", "sort", "switch_root", "watchdog"),
    *("tr", "xargs"),
)
"""What `files/init.sh` calls."""


def make_kernel(packages: Iterable[Path], tools: Tools, out: Path) -> None:
    """`out`: `boot/vmlinuz` and `usr/lib/modules`, with the modules of the root image."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        unpack(packages, whole, only=("./boot/vmlinuz-*", "./lib/modules/*"))
        source = next((whole / "usr/lib/modules").iterdir())
        _depmod(tools, whole, source.name)
        (out / "boot").mkdir(parents=True)
        shutil.copy(next((whole / "boot").glob("vmlinuz-*")), out / "boot/vmlinuz")
        _copy_modules(source, out, PRESENT)
        _depmod(tools, out, source.name)
    (out / "boot/vmlinuz").chmod(0o644)


def make_initrd(
    kernel: Path, busybox: Path, digest: Path | None, tools: Tools, epoch: int, out: Path
) -> None:
    """`out`: the file of the initial file system. `digest`: `files/digest.c`, compiled; without it
    busybox measures, which takes longer.
    """
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        tree = Path(scratch) / "tree"
        for name in ("bin", "proc", "sys", "dev", "run", "root", "tmp"):
            (tree / name).mkdir(parents=True)
        shutil.copy(busybox, tree / "bin/busybox")
        (tree / "bin/busybox").chmod(0o755)
        for name in _APPLETS:
            (tree / "bin" / name).symlink_to("busybox")
        if digest is not None:
            shutil.copy(digest, tree / "bin/digest")
        shutil.copy(FILES / "init.sh", tree / "init")
        (tree / "init").chmod(0o755)
        source = next((kernel / "usr/lib/modules").iterdir())
        (tree / "usr").mkdir()
        (tree / "lib").symlink_to("usr/lib")
        _copy_modules(source, tree, EARLY)
        _depmod(tools, tree, source.name)
        out.write_bytes(pack(tree, epoch))


def _copy_modules(source: Path, root: Path, patterns: Iterable[str]) -> None:
    target = root / "usr/lib/modules" / source.name
    needs = parse_dependencies((source / "modules.dep").read_text())
    target.mkdir(parents=True)
    for name in choose(needs, patterns):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    for name in _INDEXES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _depmod(tools: Tools, root: Path, version: str) -> None:
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
        tools.run("depmod", "-b", root, version)
        (root / "lib").unlink()
    else:
        tools.run("depmod", "-b", root, version)
