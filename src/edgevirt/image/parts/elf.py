"""Which libraries a tree's programs need and do not find: packages are left out by hand.

What a program loads by itself while it runs is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from elftools.elf.dynamic import DynamicSegment, DynamicTag
from elftools.elf.elffile import ELFFile

_MAGIC: Final = b"\x7fELF"


@dataclass(frozen=True)
class Program:
    """`needs`: names of libraries; `places`: directories to look in besides the usual ones."""

    needs: tuple[str, ...]
    places: tuple[str, ...]


def read_program(file: BinaryIO) -> Program | None:
    """None: it is no ELF file, or one that needs nothing."""
    if file.read(len(_MAGIC)) != _MAGIC:
        return None
    segments = ELFFile(file).iter_segments()
    tags = [tag for s in segments if isinstance(s, DynamicSegment) for tag in s.iter_tags()]
    places = [*_texts(tags, "DT_RPATH", "rpath"), *_texts(tags, "DT_RUNPATH", "runpath")]
    return Program(
        needs=tuple(_texts(tags, "DT_NEEDED", "needed")),
        places=tuple(place for found in places for place in found.split(":")),
    )


def _texts(tags: Iterable[DynamicTag], kind: str, attribute: str) -> Iterator[str]:
    """The library gives each kind of tag an attribute of its own."""
    return (str(getattr(tag, attribute)) for tag in tags if tag.entry.d_tag == kind)


def find_missing(root: Path) -> tuple[str, ...]:
    """«usr/bin/x needs liby.so.1», for each library that is not in the tree."""
    programs = {path: found for path in _files(root) if (found := _read(path)) is not None}
    usual = [root / "usr/lib", *(p for p in (root / "usr/lib").glob("*-linux-gnu") if p.is_dir())]
    missing = []
    for path, program in sorted(programs.items()):
        places = [*usual, root / "usr/lib64", *(_place(root, path, p) for p in program.places)]
        missing += [
            f"{path.relative_to(root)} needs {name}"
            for name in program.needs
            if not any((place / name).exists() for place in places)
        ]
    return tuple(missing)


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix not in {".ko", ".py", ".pyc"}:
            yield path


def _read(path: Path) -> Program | None:
    with path.open("rb") as file:
        return read_program(file)


def _place(root: Path, path: Path, place: str) -> Path:
    if place.startswith("$ORIGIN"):
        return path.parent / place.removeprefix("$ORIGIN").lstrip("/")
    return root / place.lstrip("/")
