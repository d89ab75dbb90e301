"""Compiles the EVE API's message definitions into Python, once per change.

The generated modules are not kept in the repository: hatchling runs this file before it packs a
wheel or makes an editable install, and `python hatch_build.py` does the same for a checkout.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from importlib.resources import files as resource_files
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # a checkout needs protoc alone
    BuildHookInterface = object  # type: ignore[assignment, misc, unused-ignore]

PROTO = Path("src/edgevirt/wire/proto")
GENERATED = Path("src/edgevirt/wire/gen")
PACKAGE = "edgevirt.wire.gen"
STAMP = ".stamp"
HEADER = '"""Generated from the definitions in wire/proto by hatch_build.py; not kept in git."""\n'
STUB_HEADER = "# mypy: ignore-errors\nfrom typing import Self as _Self\n"
ENUM_CLASS = re.compile(
    r"^( *)class \w+\(int, metaclass=_enum_type_wrapper\.EnumTypeWrapper\):\n", re.MULTILINE
)
VALUE_TYPE = (
    r"\1    @classmethod\n\1    def ValueType(cls, number: int) -> _Self: ...  # a plain int\n"
)


class MessagesBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Generates the message modules and puts them into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run by hatchling before a build; a source distribution carries the definitions alone."""
        if self.target_name == "sdist":
            return
        generate(Path(self.root))
        build_data["artifacts"].append(f"/{GENERATED}/**")


def generate(root: Path) -> bool:
    """Bring the generated modules up to date; False if they already were.

    Safe to run beside itself and beside readers: every file is replaced whole, the stamp last.
    """
    sources = sorted((root / PROTO).rglob("*.proto"))
    wanted = _stamp_of(root / PROTO, sources)
    stamp = root / GENERATED / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    (root / GENERATED).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / GENERATED, prefix=".new-") as scratch:
        fresh = Path(scratch)
        _compile(root / PROTO, sources, fresh)
        _make_importable(fresh)
        _install(fresh, root / GENERATED)
        (fresh / STAMP).write_text(wanted)
        os.replace(fresh / STAMP, stamp)
    return True


def _stamp_of(base: Path, sources: Iterable[Path]) -> str:
    """A digest of all that shapes the output: definitions, this file, the compiler's version."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(metadata.version("grpcio-tools").encode())
    for source in sources:
        digest.update(f"\0{source.relative_to(base)}\0".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _compile(base: Path, sources: Iterable[Path], out: Path) -> None:
    from grpc_tools import protoc  # type: ignore[import-untyped, import-not-found, unused-ignore]

    arguments = [
        "protoc",
        f"-I{base}",
        f"-I{resource_files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        *(str(source) for source in sources),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("cannot generate the message modules: protoc refused a definition")


def _make_importable(out: Path) -> None:
    """Turn protoc's top-level names into names under our package, and add package files.

    The stubs leave out type arguments that strict checking asks for; they are exempted here, so
    that no checker's settings need to know of them. They also lack the call that makes a typed
    enum value of a number, `Kind.ValueType(number)`, which works at run time.
    """
    roots = "|".join(sorted(folder.name for folder in out.iterdir() if folder.is_dir()))
    imported = re.compile(rf"^from ({roots}) import ", re.MULTILINE)
    owner = re.compile(rf"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')({roots})\.")
    for module in out.rglob("*_pb2.py*"):
        text = imported.sub(rf"from {PACKAGE}.\1 import ", module.read_text())
        text = owner.sub(rf"\1{PACKAGE}.\2.", text)
        if module.suffix == ".pyi":
            text = STUB_HEADER + ENUM_CLASS.sub(rf"\g<0>{VALUE_TYPE}", text)
        module.write_text(text)
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(HEADER)


def _install(fresh: Path, target: Path) -> None:
    """Move the new files into place and drop those of definitions that are gone."""
    names = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for name in sorted(names):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(fresh / name, target / name)
    for path in target.rglob("*_pb2.py*"):
        stale = path.relative_to(target)
        if stale not in names and not stale.parts[0].startswith(".new-"):
            path.unlink()


if __name__ == "__main__":
    changed = generate(Path(__file__).resolve().parent)
    sys.stdout.write("message modules generated\n" if changed else "message modules up to date\n")
