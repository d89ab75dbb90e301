"""A virtual machine to try an image in: firmware, a TPM, a watchdog, disks and network ports.

QEMU does the work. Where the processor's own virtualization cannot start a guest, it is emulated,
which is some ten times slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qemu.qmp import ConnectError, QMPClient, QMPError

from edgevirt.host.kvm.acceleration import EMULATED, accelerator
from edgevirt.image.machine_tpm import make_tpm
from edgevirt.image.recipe import Arch
from edgevirt.model.disk import SECTOR

_READY: Final = 60.0
"""Seconds that QEMU and the TPM get to open their sockets."""
_LAST_WORDS: Final = 500
"""Characters of a program that does not come up."""
_STICKS_AT, _CDS_AT = 8, 16
"""In the order of booting, behind all disks."""
_TRANSLATED: Final = "tcg,thread=multi"


# it calls every try to connect before QEMU listens an error
logging.getLogger("qemu.qmp.protocol").setLevel(logging.CRITICAL)


class MachineError(Exception):
    """«cannot X: why»."""


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


class Machine:
    """One machine. It can be started again after any end, and remembers what hardware would."""

    def __init__(self, spec: MachineSpec) -> None:
        self.spec = spec
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self._loop: asyncio.Runner | None = None
        self._monitor = QMPClient()
        self._log = spec.state / "qemu.log"

    def start(self) -> None:
        """Powers it on. Raises MachineError, TpmError."""
        if self._sockets is not None:
            raise MachineError("cannot start the machine: it runs")
        spec = self.spec
        spec.tpm_state.mkdir(parents=True, exist_ok=True)
        if spec.firmware is Firmware.UEFI and not spec.variables.exists():
            shutil.copyfile(spec.board.variables, spec.variables)
        # the address of a socket has room for 108 bytes
        self._sockets = tempfile.TemporaryDirectory(prefix="edgevirt-machine-")
        sockets = Path(self._sockets.name)
        try:
            if spec.tpm:
                if not any(spec.tpm_state.iterdir()):
                    make_tpm(spec.tpm_state)
                self._run(tpm_command(spec, sockets / "tpm"), "tpm.log")
                self._wait(lambda: (sockets / "tpm").exists())
            here = accelerator() if spec.arch is Arch.AMD64 else _TRANSLATED
            self._run(qemu_command(spec, sockets, here), "qemu.log")
            self._loop = asyncio.Runner()
            self._connect(self._loop, sockets / "qmp")
        except BaseException:
            self.cut_power()
            raise

    def _run(self, command: list[str], log: str) -> None:
        self._log = self.spec.state / log
        with self._log.open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _connect(self, loop: asyncio.Runner, socket: Path) -> None:
        self._monitor = QMPClient()

        def connected() -> bool:
            with contextlib.suppress(ConnectError):
                loop.run(self._monitor.connect(str(socket)))
                return True
            return False

        self._wait(connected)

    def _wait(self, ready: Callable[[], bool]) -> None:
        """For the program that was started last."""
        deadline = time.monotonic() + _READY
        while not ready():
            process = self._processes[-1]
            if process.poll() is not None or time.monotonic() > deadline:
                program = Path(str(process.args[0])).name  # type: ignore[index]
                said = self._log.read_text(errors="replace")[-_LAST_WORDS:].strip()
                raise MachineError(
                    f"cannot start the machine: {program} does not come up; it said: "
                    f"{said or 'nothing'} ({self._log})"
                )
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        return bool(self._processes) and self._processes[-1].poll() is None

    def wait(self, seconds: float) -> int:
        """Until it powers itself off: QEMU's exit code. Raises MachineError when it does not."""
        try:
            code = self._processes[-1].wait(seconds)
        except subprocess.TimeoutExpired:
            raise MachineError(f"cannot wait longer than {seconds:.0f} s for its end") from None
        self._forget()
        return code

    def cut_power(self) -> None:
        """At once, whatever it does. Idempotent."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._forget()

    def press_power(self) -> None:
        """As the button on the box: the system may end in order, or not heed it."""
        self.ask("system_powerdown")

    def reset(self) -> None:
        """As the reset button: nothing ends in order."""
        self.ask("system_reset")

    def unplug(self, port: int, *, link: bool = False) -> None:
        """Pulls the cable out of a network port, or (`link`) plugs it in."""
        self.ask("set_link", name=f"nic{port}", up=link)

    def ask(self, command: str, **arguments: object) -> Any:
        """A QMP command. Raises MachineError."""
        if self._loop is None:
            raise MachineError(f"cannot {command}: the machine does not run")
        asked = self._monitor.execute(command, arguments)
        try:
            return self._loop.run(asyncio.wait_for(asked, _READY))
        except (QMPError, TimeoutError) as error:
            raise MachineError(f"cannot {command}: {error!r}") from error

    def screen(self, path: Path) -> None:
        """A picture (PNG) of what it shows."""
        self.ask("screendump", filename=str(path), format="png")

    def printed(self) -> str:
        """All that it printed so far."""
        try:
            return self.spec.console.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _forget(self) -> None:
        """Closes what belongs to this start; the TPM ends with its machine."""
        if self._loop is not None:
            with contextlib.suppress(QMPError, OSError, EOFError):
                self._loop.run(self._monitor.disconnect())
            self._loop.close()
            self._loop = None
        for process in self._processes:
            process.terminate()
            process.wait()
        self._processes.clear()
        if self._sockets is not None:
            self._sockets.cleanup()
            self._sockets = None


@contextlib.contextmanager
def machine(spec: MachineSpec) -> Iterator[Machine]:
    """A started machine; without power afterwards."""
    made = Machine(spec)
    made.start()
    try:
        yield made
    finally:
        made.cut_power()


# -- command lines: pure ---------------------------------------------------------------------------


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
