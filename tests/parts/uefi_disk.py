"""A disk that UEFI firmware boots: a file system with one program, compiled here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("uefi_counter.c")
_LAYOUT: Final = """\
SECTIONS {
  . = 0;
  .head : { *(.head) }
  . = 0x1000;
  .text : { *(.text*) *(.rodata*) *(.data*) *(.bss*) . = ALIGN(0x1000); }
  end = .;
  size = end - 0x1000;
  /DISCARD/ : { *(*) }
}
"""
_COMPILE: Final = (
    *("cc", "-O1", "-ffreestanding", "-fpie", "-fno-stack-protector", "-mno-red-zone"),
    *("-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mgeneral-regs-only"),
    *("-Wall", "-Wextra", "-Werror", "-c"),
)


def make_counting_uefi_disk(folder: Path) -> Path:
    """`folder`: where it is made."""
    parts = {name: folder / f"counter.{name}" for name in ("o", "lds", "efi", "raw")}
    parts["lds"].write_text(_LAYOUT)
    _run(*_COMPILE, SOURCE, "-o", parts["o"])
    link = ("ld", "--oformat", "binary", "-e", "entry", "-T", parts["lds"])
    _run(*link, "-o", parts["efi"], parts["o"])
    with parts["raw"].open("wb") as disk:
        disk.truncate(4 << 20)
    _run("mkfs.vfat", parts["raw"])
    _run("mmd", "-i", parts["raw"], "::EFI", "::EFI/BOOT")
    _run("mcopy", "-i", parts["raw"], parts["efi"], "::EFI/BOOT/BOOTX64.EFI")
    return parts["raw"]


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)
