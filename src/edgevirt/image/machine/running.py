"""One machine, from power-on to its end.

QEMU does the work. Where the processor's own virtualization cannot start a guest, it is emulated,
which is some ten times slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from qemu.qmp import ConnectError, QMPClient, QMPError

from edgevirt.host.kvm.acceleration import accelerator
from edgevirt.image.machine.command import qemu_command, tpm_command
from edgevirt.image.machine.spec import Firmware, MachineSpec
from edgevirt.image.machine.tpm import make_tpm
from edgevirt.image.recipe import Arch

_READY: Final = 60.0
"""Seconds that QEMU and the TPM get to open their sockets."""
_LAST_WORDS: Final = 500
"""Characters of a program that does not come up."""
_TRANSLATED: Final = "tcg,thread=multi"

# it calls every try to connect before QEMU listens an error
logging.getLogger("qemu.qmp.protocol").setLevel(logging.CRITICAL)


class MachineError(Exception):
    """«cannot X: why»."""


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
