"""Compiles Python to bytecode that is taken as it is: the root image is read-only, and measured."""

from __future__ import annotations

import sys
from pathlib import Path

from edgevirt.image.programs import ProgramError, run
from edgevirt.image.recipe import PYTHON


def compile_tree(root: Path, directory: str, prefix: str = "/") -> None:
    """`directory`: below `root`; `prefix`: where the image will have `root`.

    Raises ProgramError when this interpreter's bytecode is not that of the image's.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        raise ProgramError(
            f"cannot compile the node's code: the image has Python {PYTHON}, and this is"
            f" {sys.version_info.major}.{sys.version_info.minor}; build with {PYTHON}"
        )
    run(
        *(sys.executable, "-I", "-m", "compileall", "-q", "-f", "-j", "2"),
        *("--invalidation-mode", "unchecked-hash"),
        *("-s", root, "-p", prefix, root / directory.lstrip("/")),
        PYTHONHASHSEED="0",
    )
