"""What the kernel said last before it gave up, where the firmware kept it (pstore)."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_STORE: Final = Path("/sys/fs/pstore")
_PREFIX: Final = "dmesg-"
_KEPT: Final = 5
"""Crashes that are kept, as EVE keeps them."""
_MOST: Final = 64 << 10
_TOLD: Final = 8_000


def take_panic(directory: Path, stamp: str, store: Path = _STORE) -> str:
    """The end of the kernel's log of the crash before, if there was one; empty otherwise.

    It is moved to `directory`, under `stamp`, so that the store has room and nobody reads it twice.
    """
    try:
        parts = sorted(path for path in store.iterdir() if path.name.startswith(_PREFIX))
    except OSError:
        return ""
    texts = []
    for part in parts:
        with suppress(OSError):
            texts.append(part.read_bytes()[:_MOST].decode(errors="replace"))
    if not texts:
        return ""
    with suppress(OSError):
        kept = directory / stamp
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "dmesg").write_text("\n".join(texts))
        for old in sorted(directory.iterdir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    for part in parts:
        with suppress(OSError):
            part.unlink()
    return last_words(texts)


def last_words(texts: list[str]) -> str:
    """From the panic on, or else the end: the part that matters."""
    whole = "\n".join(texts)
    at = whole.rfind("Kernel panic")
    start = max(0, at - _TOLD // 2) if at >= 0 else max(0, len(whole) - _TOLD)
    return whole[start : start + _TOLD]
