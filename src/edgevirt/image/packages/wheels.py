"""The node's Python libraries: wheels by the hashes of the repository's lock, unpacked.

Nothing is built and nothing of a wheel is run. Which ones are taken is `recipe.LIBRARIES`: what the
node's services import, not what the fleet or the developers do.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edgevirt.image.programs import ProgramError, run
from edgevirt.image.recipe import LIBRARIES, PYTHON, Arch

_MACHINES: Final = {Arch.AMD64: "x86_64", Arch.ARM64: "aarch64"}
_GLIBC: Final = (36, 35, 34, 31, 28, 27, 24, 17)
"""Minor versions that wheels are made for; Debian 12 has 2.36."""
_BLOCK: Final = re.compile(r"^([A-Za-z0-9._-]+)==(?:.*\\\n)*.*$", re.MULTILINE)


def choose(lock: str, names: Iterable[str]) -> str:
    """The lines of these libraries in the text of a requirements file. Raises ProgramError."""
    blocks = {_normal(found[1]): found[0] for found in _BLOCK.finditer(lock)}
    try:
        return "".join(f"{blocks[_normal(name)]}\n" for name in sorted(names))
    except KeyError as error:
        raise ProgramError(f"cannot find {error.args[0]} in requirements.lock") from None


def pins(lock: str) -> dict[str, str]:
    """By library of the node, its locked version."""
    wanted = {_normal(name) for name in LIBRARIES}
    found = {}
    for block in _BLOCK.finditer(lock):
        if _normal(block[1]) in wanted:
            found[_normal(block[1])] = block[0].split("==")[1].split()[0].rstrip(";\\")
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(requirements: str, arch: Arch, into: Path) -> None:
    """Downloads and unpacks the wheels into a new directory. Raises ProgramError."""
    machine = _MACHINES[arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    options = [
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"),
        *("--python-version", PYTHON, "--abi", "cp311", "--abi", "abi3", "--abi", "none"),
        *(part for name in (*platforms, f"manylinux2014_{machine}", "any")
          for part in ("--platform", name)),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted"
        wanted.write_text(requirements)
        pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
        run(*pip, "download", *options, "-r", wanted, "-d", f"{scratch}/wheels", inherit=True)
        into.mkdir()
        for wheel in sorted(Path(scratch, "wheels").glob("*.whl")):
            _unpack(wheel, into)


def _unpack(wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            top = member.filename.split("/")[0]
            if member.is_dir() or top.endswith(".data"):
                continue
            path = into / member.filename
            if not path.resolve().is_relative_to(into.resolve()):
                raise ProgramError(f"cannot unpack {wheel.name}: {member.filename} leaves it")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            path.chmod(0o755 if path.suffix == ".so" else 0o644)
