"""The head of a CD: descriptors, one folder of small files, and what firmware starts. Pure.

ECMA-119 (ISO 9660) and the El Torito specification 1.0; UEFI specification, section 13.3.2. What
stands before it, the first 32 KiB of a CD, is nobody's: a partition table finds room there.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 2048
"""Bytes."""
HEAD: Final = 16
"""The first block of what is made here."""
_BOOT, _END, _PATHS_L, _PATHS_M, _ROOT, _CATALOG, _FILES = range(HEAD + 1, HEAD + 8)
BIOS, EFI = 0, 0xEF
"""Kinds of firmware, as El Torito numbers them."""
_BOOTABLE, _LAST_SECTION = 0x88, 0x91
_FOLDER: Final = 2


@dataclass(frozen=True)
class Start:
    """What firmware of a kind starts. `block`: where it stands. `sectors`, of 512 bytes: how much
    legacy BIOS loads, or how large a file system UEFI sees; 0: all to the end.
    """

    firmware: int
    block: int
    sectors: int = 0


def places_of(files: Mapping[str, bytes]) -> dict[str, int]:
    """The block at which each file begins. Names: as on a CD, `README.TXT`."""
    places, at = {}, int(_FILES)
    for name, content in sorted(files.items()):
        places[name] = at
        at += -(-len(content) // BLOCK)
    return places


def format_head(
    name: str, blocks: int, files: Mapping[str, bytes], starts: Iterable[Start], epoch: int
) -> bytes:
    """From block `HEAD` on. `name`: of the volume; `blocks`: of all of the CD; `epoch`: the time of
    everything, in seconds since 1970.
    """
    records = [_record(b"\0", _ROOT, BLOCK, epoch, _FOLDER), _record(b"\1", _ROOT, BLOCK, epoch, 2)]
    places = places_of(files)
    for file, content in sorted(files.items()):
        records.append(_record(f"{file};1".encode(), places[file], len(content), epoch))
    paths = [struct.pack(f"{order}BBIHH", 1, 0, _ROOT, 1, 0) for order in "<>"]
    catalog = _catalog(tuple(starts))
    parts = [_primary(name, blocks, len(paths[0]), epoch), _boot_record(), _descriptor(255)]
    parts += [*paths, b"".join(records), catalog, *(files[file] for file in sorted(files))]
    return b"".join(part.ljust(-(-len(part) // BLOCK) * BLOCK, b"\0") for part in parts)


# -- descriptors -----------------------------------------------------------------------------------


def _descriptor(kind: int) -> bytes:
    return struct.pack("<B5sB", kind, b"CD001", 1)


def _primary(name: str, blocks: int, paths_size: int, epoch: int) -> bytes:
    made = time.strftime("%Y%m%d%H%M%S00", time.gmtime(epoch)).encode() + b"\0"
    never = b"0" * 16 + b"\0"
    return b"".join(
        (
            *(_descriptor(1), b"\0", b" " * 32, name.encode().ljust(32), bytes(8)),
            *(_both("I", blocks), bytes(32), _both("H", 1), _both("H", 1), _both("H", BLOCK)),
            *(_both("I", paths_size), struct.pack("<II", _PATHS_L, 0)),
            *(struct.pack(">II", _PATHS_M, 0), _record(b"\0", _ROOT, BLOCK, epoch, _FOLDER)),
            *(b" " * (4 * 128 + 3 * 37), made, made, never, made, b"\1\0"),
        )
    )


def _boot_record() -> bytes:
    name = b"EL TORITO SPECIFICATION".ljust(32, b"\0")
    return _descriptor(0) + name + bytes(32) + struct.pack("<I", _CATALOG)


def _record(name: bytes, block: int, size: int, epoch: int, flags: int = 0) -> bytes:
    """One line of a folder."""
    at = time.gmtime(epoch)
    made = struct.pack("6Bb", at.tm_year - 1900, *at[1:6], 0)
    fields = _both("I", block) + _both("I", size) + made + struct.pack("3B", flags, 0, 0)
    rest = fields + _both("H", 1) + struct.pack("B", len(name)) + name
    rest += bytes(len(rest) % 2)
    return struct.pack("BB", len(rest) + 2, 0) + rest


def _both(kind: str, number: int) -> bytes:
    """In both orders of bytes."""
    return struct.pack(f"<{kind}", number) + struct.pack(f">{kind}", number)


# -- what firmware starts --------------------------------------------------------------------------


def _catalog(starts: tuple[Start, ...]) -> bytes:
    first, *others = starts
    entries = [_validation(first.firmware), _entry(first)]
    for start in others:  # one kind of firmware is one section
        entries += [struct.pack("<BBH28x", _LAST_SECTION, start.firmware, 1), _entry(start)]
    if len(others) > 1:
        raise ValueError("cannot start by more than two kinds of firmware")
    return b"".join(entries)


def _validation(firmware: int) -> bytes:
    """Its 16-bit words add up to nothing."""
    blank = struct.pack("<BBH24sHBB", 1, firmware, 0, b"", 0, 0x55, 0xAA)
    total = sum(struct.unpack("<16H", blank))
    return struct.pack("<BBH24sHBB", 1, firmware, 0, b"", -total & 0xFFFF, 0x55, 0xAA)


def _entry(start: Start) -> bytes:
    """As it is: no floppy and no disk is made up of it."""
    return struct.pack("<BBHBBHI20x", _BOOTABLE, 0, 0, 0, 0, start.sectors, start.block)
