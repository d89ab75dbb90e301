"""Which libraries a tree's programs need and do not find: packages are left out by hand.

Reads ELF's dynamic section (System V ABI, chapter 5), of 64-bit little-endian programs. What a
program loads by itself while it runs is not seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Program:
    """`needs`: names of libraries; `places`: directories to look in besides the usual ones."""

    needs: tuple[str, ...]
    places: tuple[str, ...]


def read_program(content: bytes) -> Program | None:
    """None: it is no ELF file, or one that needs nothing."""
    if not content.startswith(_MAGIC):
        return None
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    segments = [_SEGMENT.unpack_from(content, start + number * size) for number in range(count)]
    loads = [(s[3], s[2], s[5]) for s in segments if s[0] == _LOAD]
    rows = [row for s in segments if s[0] == _DYNAMIC for row in _rows(content[s[2] : s[2] + s[5]])]
    strings = next((value for tag, value in rows if tag == _STRINGS), None)
    if strings is None:
        return None
    base = next(
        at + strings - address for address, at, room in loads if address <= strings < address + room
    )

    def text(offset: int) -> str:
        end = content.index(b"\0", base + offset)
        return content[base + offset : end].decode()

    needs = tuple(text(value) for tag, value in rows if tag == _NEEDED)
    places = [text(value) for tag, value in rows if tag in (_RPATH, _RUNPATH)]
    return Program(needs, tuple(place for found in places for place in found.split(":")))


def _rows(section: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in struct.iter_unpack("<qQ", section[: len(section) // 16 * 16]):
        if tag == 0:
            return
        yield tag, value


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
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
    return read_program(path.read_bytes())


def _place(root: Path, path: Path, place: str) -> Path:
    if place.startswith("$ORIGIN"):
        return path.parent / place.removeprefix("$ORIGIN").lstrip("/")
    return root / place.lstrip("/")
