"""The command lines of a machine's programs: QEMU, and the TPM beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgevirt.image.machine.spec import Firmware, MachineSpec, Port
from edgevirt.model.disk import SECTOR

_STICKS_AT: Final = 8
_CDS_AT: Final = 16
"""In the order of booting, behind all disks."""


def tpm_command(spec: MachineSpec, socket: Path) -> list[str]:
    return [
        *("swtpm", "socket", "--tpm2", "--terminate"),
        *("--tpmstate", f"dir={spec.tpm_state},mode=0600"),
        *("--ctrl", f"type=unixio,path={socket},mode=0600"),
    ]


def qemu_command(spec: MachineSpec, sockets: Path, accelerator: str) -> list[str]:
    return [
        *(spec.board.program, "-nodefaults", "-display", "none"),
        *(*spec.board.options, "-accel", accelerator, "-cpu", _cpu(spec, accelerator)),
        *("-smp", str(spec.cpus), "-m", str(spec.memory)),
        *("-rtc", "base=utc", "-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={_value(spec.console)},append=on"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{_value(sockets / 'qmp')},server=on,wait=off"),
        *_board(spec, sockets),
        *_disks(spec),
        *_sticks(spec),
        *_cds(spec),
        *_networks(spec),
        *spec.arguments,
    ]


def _board(spec: MachineSpec, sockets: Path) -> Iterator[str]:
    if spec.firmware is Firmware.UEFI:
        yield from ("-drive", f"if=pflash,format=raw,readonly=on,file={spec.board.code}")
        yield from ("-drive", f"if=pflash,format=raw,file={_value(spec.variables)}")
    if spec.serial:
        yield from ("-smbios", f"type=1,serial={_value(spec.serial)}")
    if spec.tpm:
        yield from ("-chardev", f"socket,id=tpm,path={_value(sockets / 'tpm')}")
        yield from ("-tpmdev", "emulator,id=tpm,chardev=tpm")
        yield from ("-device", f"{spec.board.tpm},tpmdev=tpm")
    if spec.watchdog:
        yield from ("-device", "i6300esb", "-action", "watchdog=reset")


def _disks(spec: MachineSpec) -> Iterator[str]:
    first = len(spec.sticks) if spec.sticks_first else 0
    for number, disk in enumerate(spec.disks):
        kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
        yield from ("-drive", f"if=none,id=disk{number},format={kind},file={_value(disk)}")
        device = f"virtio-blk-pci,drive=disk{number},bootindex={first + number}"
        if spec.sector != SECTOR:  # which QEMU's have unless it is told
            device += f",logical_block_size={spec.sector},physical_block_size={spec.sector}"
        yield from ("-device", device)


def _sticks(spec: MachineSpec) -> Iterator[str]:
    first = 0 if spec.sticks_first else _STICKS_AT
    if spec.sticks:
        yield from ("-device", "qemu-xhci")
    for number, stick in enumerate(spec.sticks):
        yield from ("-drive", f"if=none,id=stick{number},format=raw,file={_value(stick)}")
        yield from ("-device", f"usb-storage,drive=stick{number},bootindex={first + number}")


def _cds(spec: MachineSpec) -> Iterator[str]:
    for number, cd in enumerate(spec.cds):
        yield "-drive"
        yield f"if=none,id=cd{number},media=cdrom,readonly=on,format=raw,file={_value(cd)}"
        yield from ("-device", f"ide-cd,drive=cd{number},bootindex={_CDS_AT + number}")


def _networks(spec: MachineSpec) -> Iterator[str]:
    for number, port in enumerate(spec.ports):
        yield from ("-netdev", _user_network(number, port))
        yield from ("-device", f"virtio-net-pci,id=nic{number},netdev=net{number},romfile=")


def _cpu(spec: MachineSpec, accelerator: str) -> str:
    board = spec.board
    return spec.cpu or (board.emulated if accelerator.startswith("tcg") else board.cpu)


def _user_network(number: int, port: Port) -> str:
    forwards = "".join(
        f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in port.forwards.items()
    )
    return f"user,id=net{number},net=10.0.{2 + number}.0/24{forwards}"


def _value(text: object) -> str:
    """In QEMU's lists of options a comma within a value is doubled."""
    return str(text).replace(",", ",,")
