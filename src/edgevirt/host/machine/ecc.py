"""Memory errors that the kernel has counted (EDAC; Documentation/admin-guide/ras.rst)."""

from __future__ import annotations

from pathlib import Path

import msgspec

CONTROLLERS = Path("/sys/devices/system/edac/mc")


class Errors(msgspec.Struct, frozen=True):
    """Of one part, since the kernel's start: corrected ones, and those that lost data."""

    name: str
    corrected: int
    uncorrected: int


class MemoryController(msgspec.Struct, frozen=True):
    errors: Errors
    ranks: tuple[Errors, ...]
    """Its DIMMs, or ranks of them, as the kernel's driver knows them."""


def memory_controllers(root: Path = CONTROLLERS) -> tuple[MemoryController, ...]:
    """Empty where the memory has no ECC, or no driver."""
    return tuple(
        MemoryController(
            Errors(
                _text(path / "mc_name") or path.name,
                _number(path / "ce_count"),
                _number(path / "ue_count"),
            ),
            tuple(
                Errors(
                    _text(rank / "dimm_label") or rank.name,
                    _number(rank / "dimm_ce_count"),
                    _number(rank / "dimm_ue_count"),
                )
                for rank in sorted([*path.glob("dimm[0-9]*"), *path.glob("rank[0-9]*")])
            ),
        )
        for path in sorted(root.glob("mc[0-9]*"))
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()[:64]
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
