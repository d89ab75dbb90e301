"""Xen for the root image: the hypervisor, and the few programs that its first domain needs.

No scripts: what devices of domains need is done by the node. No emulator: domains are PV or PVH.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edgevirt.image.errors import ImageError
from edgevirt.image.packages.unpack import unpack
from edgevirt.image.recipe import XEN

IMAGE: Final = "boot/xen.gz"
_PROGRAMS: Final = (
    "xenstored",          # what domains and their devices know of each other
    "xen-init-dom0",      # the first domain's own entry in it
    "xenconsoled",        # domains' consoles
    "xl",                 # makes and ends domains
    "libxl-save-helper",  # which xl calls
)  # fmt: skip
_CLIENTS: Final = ("xenstore", "xenstore-read", "xenstore-write", "xenstore-list", "xenstore-rm")

_FILES: Final = {"etc/xen/xl.conf": 'autoballoon="off"\n'}
"""The first domain keeps its memory; what is left is the others'."""


class HypervisorError(ImageError):
    """«cannot make the hypervisor: why»."""


def make_hypervisor(packages: Iterable[Path], out: Path) -> None:
    """`out`: a tree with `IMAGE`, programs and libraries. Raises ProgramError, HypervisorError."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        unpack(packages, whole)
        places = f"usr/lib/xen-{XEN}/bin"
        _copy(_one(whole, f"boot/xen-{XEN}-*.gz"), out / IMAGE, 0o644)
        for name in _PROGRAMS:
            _copy(_one(whole, f"{places}/{name}"), out / places / name, 0o755)
        for name in _CLIENTS:
            _copy(_one(whole, f"usr/bin/{name}"), out / "usr/bin" / name, 0o755)
        for name, text in _FILES.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
            (out / name).chmod(0o644)
        for library in sorted(whole.glob("usr/lib/*/lib*.so.*")):
            _copy(library, out / library.relative_to(whole), 0o644)


def _one(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise HypervisorError(
            f"cannot make the hypervisor: {len(found)} files are {pattern} in the packages, not one"
        )
    return found[0]


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(mode)
