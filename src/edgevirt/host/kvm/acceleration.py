"""Whether this machine's processor can start a guest: a device file does not promise it.

Where it cannot, guests are emulated: they run all the same, some ten times slower.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgevirt.host.rights.death import die_with

PROGRAM: Final = "qemu-system-x86_64"
KVM: Final = "kvm"
TCG: Final = "tcg"
XEN: Final = "xen"
EMULATED: Final = "max,-erms"
"""The processor of an emulated guest: all of QEMU's, but what is slow. With `erms` a kernel
copies and clears memory by one instruction, which QEMU does byte by byte.
"""
_LEAST_PATIENCE: Final = 3.0
_MOST_PATIENCE: Final = 60.0
_PATIENCE: Final = 25.0
"""How much longer a probe may take than QEMU does to say its version: where that is slow, as on a
machine that is emulated itself, a guest that does start is slow too.
"""
_PROBE_DONE: Final = 33
"""What QEMU ends with when its guest writes 16 to the debug exit port: twice that, and one."""


def can_emulate() -> bool:
    """Whether QEMU is here at all."""
    return shutil.which(PROGRAM) is not None


@functools.cache
def acceleration() -> str:
    """KVM or TCG. Blocks up to some seconds, the first time."""
    return KVM if Path("/dev/kvm").exists() and _starts_guests() else TCG


def processor(accel: str) -> str:
    """As QEMU's `-cpu` takes it: all that a guest can be given here. `accel`: QEMU's `-accel`."""
    return "host" if accel == KVM else EMULATED


def accelerator() -> str:
    """As QEMU's `-accel` takes it."""
    # a translated guest's code is kept: by default up to a gigabyte of it
    return KVM if acceleration() == KVM else "tcg,thread=multi,tb-size=128"


def _patience() -> float:
    """Seconds. Raises OSError."""
    before = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [PROGRAM, "--version"], capture_output=True, timeout=_MOST_PATIENCE, check=False
        )
    took = time.monotonic() - before
    return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, took * _PATIENCE))


def _starts_guests() -> bool:
    """Boots a sector that does little but tell that it ran, on the processor that guests get.

    A virtualization that is itself emulated runs plain code, and fails at what each kernel does
    first: it has not all registers of its own processor, or knows no floating point.
    """
    # fwait; fninit; mov al, 16; out 0xf4, al; hlt; jump back
    code = bytes([0x9B, 0xDB, 0xE3, 0xB0, 0x10, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD])
    with tempfile.NamedTemporaryFile(suffix=".img") as sector:
        sector.write(code.ljust(510, b"\0") + b"\x55\xaa")
        sector.flush()
        command = [
            *(PROGRAM, "-nodefaults", "-display", "none"),
            *("-machine", "pc", "-accel", KVM, "-cpu", processor(KVM), "-m", "64"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
            *("-drive", f"if=floppy,format=raw,file={sector.name}"),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=_patience(),
                check=False,
                preexec_fn=functools.partial(die_with, os.getpid()),  # also when we are killed
            )
        except (subprocess.TimeoutExpired, OSError):
            return False
        return done.returncode == _PROBE_DONE
