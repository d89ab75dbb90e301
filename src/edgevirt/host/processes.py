"""Other processes: telling one from its number's next owner, and noticing at once that it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

_MAX_OUTPUT = 65_536


class Process(msgspec.Struct, frozen=True):
    """A process for good: a number comes again, its start doesn't."""

    pid: int
    start: int
    """Clock ticks since the machine's boot."""

    def alive(self) -> bool:
        """False also for one that ended and only waits for its parent to notice."""
        stat = _stat(self.pid)
        return stat is not None and stat[0] not in "ZX" and stat[1] == self.start

    def hears(self, number: signal.Signals) -> bool:
        """Whether the signal can have an effect on it as the first process of a namespace.

        Such a process is spared what it has no handler for; one that blocks a signal may take it
        by signalfd.
        """
        bit = 1 << (number - 1)
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return False
        masks = dict(line.split(":\t", 1) for line in lines if line.startswith("Sig"))
        return any(int(masks[name], 16) & bit for name in ("SigCgt", "SigBlk"))

    def send(self, number: signal.Signals) -> None:
        """No effect when it has ended."""
        with self._opened() as fd:
            if fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)

    async def ended(self) -> None:
        """Returns when it has ended."""
        with self._opened() as fd:
            if fd is None:
                return
            loop = asyncio.get_running_loop()
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(fd, _fulfil, readable)
            try:
                await readable
            finally:
                loop.remove_reader(fd)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A file descriptor of this very process; None when it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield fd if self.alive() else None
        finally:
            os.close(fd)


def identify(pid: int) -> Process | None:
    """None when there is no such process."""
    stat = _stat(pid)
    return None if stat is None else Process(pid, stat[1])


async def output(
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    lines: bool = False,
) -> tuple[int, str]:
    """Runs a short command: its exit code, and what it wrote to both outputs: as one line, or
    (`lines`) as it is.

    Raises TimeoutError, and OSError when it cannot be started. Cancelled or late, it is killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout):
            said = await process.stdout.read(_MAX_OUTPUT)
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    return code, text if lines else " ".join(text.split())


async def read_line(fd: int, *, timeout: float) -> bytes:
    """The first line, or what there was, of a pipe that others write to. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    read = b""
    async with asyncio.timeout(timeout):
        while b"\n" not in read and len(read) < _MAX_OUTPUT:
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(fd, _fulfil, readable)
            try:
                await readable
            finally:
                loop.remove_reader(fd)
            chunk = os.read(fd, _MAX_OUTPUT)
            if not chunk:
                break
            read += chunk
    return read.partition(b"\n")[0]


def _fulfil(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the command's name, in parentheses, may hold anything
    fields = text.rpartition(") ")[2].split(" ")
    return fields[0], int(fields[19])
