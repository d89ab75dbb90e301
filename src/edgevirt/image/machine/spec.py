"""What a machine is made of: its board, disks, ports and firmware, and where it keeps its state."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgevirt.host.kvm.acceleration import EMULATED
from edgevirt.image.recipe import Arch
from edgevirt.model.disk import SECTOR


class Firmware(enum.StrEnum):
    UEFI = "uefi"
    BIOS = "bios"


@dataclass(frozen=True)
class Board:
    """What differs between architectures. `cpu`, `emulated`: the processor, by who runs it.

    `code`, `variables`: of UEFI firmware.
    """

    program: str
    options: tuple[str, ...]
    cpu: str
    emulated: str
    code: Path
    variables: Path
    tpm: str


_BOARDS: Final = {
    Arch.AMD64: Board(
        program="qemu-system-x86_64",
        options=("-vga", "std", "-machine", "q35"),
        cpu="max",
        emulated=EMULATED,
        code=Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
        variables=Path("/usr/share/OVMF/OVMF_VARS_4M.fd"),
        tpm="tpm-crb",
    ),
    Arch.ARM64: Board(
        program="qemu-system-aarch64",
        options=("-machine", "virt"),
        cpu="max,pauth-impdef=on",
        emulated="max,pauth-impdef=on",
        code=Path("/usr/share/AAVMF/AAVMF_CODE.fd"),
        variables=Path("/usr/share/AAVMF/AAVMF_VARS.fd"),
        tpm="tpm-tis-device",
    ),
}


@dataclass(frozen=True)
class Port:
    """A network port. Its guest reaches this machine's loopback as 10.0.<2 + its number>.2.

    `forwards`: TCP port of this machine's loopback → TCP port of the guest.
    """

    forwards: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MachineSpec:
    """`state`: a directory for what the machine keeps: firmware variables, TPM, console log.

    `disks`: raw, or qcow2 by their suffix; the first one boots. `sticks`: raw, on USB.
    `sector`: bytes that the disks are read and written by.
    `sticks_first`: firmware starts from them; legacy BIOS looks at one of all disks alone.
    `cds`: in drives of their own; firmware starts from them when no disk boots.
    `memory`: MiB. `cpu`: as QEMU names them; empty: the best. `serial`: of the hardware.
    `cpus`: one is not only cheaper to emulate. QEMU 7.2 sometimes keeps the breakpoint that a
    kernel puts where it changes its own code under other processors, and the machine hangs there.
    `arguments`: more of them for QEMU.
    """

    state: Path
    disks: tuple[Path, ...]
    sector: int = SECTOR
    sticks: tuple[Path, ...] = ()
    sticks_first: bool = False
    cds: tuple[Path, ...] = ()
    memory: int = 1024
    cpus: int = 1
    cpu: str = ""
    firmware: Firmware = Firmware.UEFI
    tpm: bool = True
    watchdog: bool = True
    serial: str = ""
    ports: tuple[Port, ...] = (Port(),)
    arguments: tuple[str, ...] = ()
    arch: Arch = Arch.AMD64

    @property
    def board(self) -> Board:
        return _BOARDS[self.arch]

    @property
    def console(self) -> Path:
        """What the machine printed on its serial line, over all its starts."""
        return self.state / "console.log"

    @property
    def tpm_state(self) -> Path:
        return self.state / "tpm"

    @property
    def variables(self) -> Path:
        """The firmware's."""
        return self.state / "efivars.fd"
