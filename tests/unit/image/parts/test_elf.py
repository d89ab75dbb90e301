"""A program whose library was left out of an image is found when it is built, not when it runs."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from edgevirt.image.parts.elf import find_missing, read_program

PROGRAM = Path("/usr/bin/env")


def test_a_program_tells_what_it_needs() -> None:
    with PROGRAM.open("rb") as file:
        found = read_program(file)
    assert found is not None
    assert "libc.so.6" in found.needs
    assert read_program(io.BytesIO(b"#!/bin/sh\n")) is None


def test_what_is_missing_is_told_with_who_needs_it(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    shutil.copy(PROGRAM, tmp_path / "usr/bin/env")
    assert "usr/bin/env needs libc.so.6" in find_missing(tmp_path)
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "libc.so.6").touch()
    assert not any("libc.so.6" in missing for missing in find_missing(tmp_path))
