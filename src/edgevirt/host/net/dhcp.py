"""A DHCP client for one interface: busybox's udhcpc, kept running, and the lease that it has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from edgevirt.host.net.lease import END, RECORD_MAX, BadLease, Lease, parse
from edgevirt.host.processes import identify

_LOG: Final = logging.getLogger("edgevirt.dhcp")
_SCRIPT: Final = Path(__file__).with_name("udhcpc.sh")
_VENDOR: Final = "LFEDGE-EVE"
"""Option 60: as DHCP servers at sites that have EVE nodes know them."""
_AGAIN: Final = 5.0
_COMMAND: Final = (
    *("busybox", "udhcpc", "-f", "-t", "4", "-T", "3", "-A", "8", "-V", _VENDOR),
    *("-O", "ntpsrv", "-O", "staticroutes", "-O", "121"),
)
"""Four questions, 3 s apart; after 8 s of silence again, for ever."""

Leased = Callable[[str], Awaitable[None]]


class DhcpClient:
    """`lease`: what it has. `heard`: whether a server has said anything in this run.

    `leased` is called with the interface's name after every change.
    """

    def __init__(self, interface: str, directory: Path, leased: Leased) -> None:
        self._interface = interface
        self._pid_file = directory / f"{interface}.pid"
        self._leased = leased
        self._task: asyncio.Task[None] | None = None
        self.lease: Lease | None = None
        self.heard = False

    def start(self) -> None:
        self._end_predecessor()
        self._task = asyncio.create_task(self._run(), name=f"dhcp.{self._interface}")

    async def close(self) -> None:
        """The address stays; the lease is not given back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                why = await self._run_once()
            except OSError as error:
                why = str(error)
            _LOG.warning(
                "the DHCP client of %s ended: %s; again in %.0f s", self._interface, why, _AGAIN
            )
            await asyncio.sleep(_AGAIN)

    async def _run_once(self) -> str:
        if not os.access(_SCRIPT, os.X_OK):
            return f"its script {_SCRIPT} is no program"
        process = await asyncio.create_subprocess_exec(
            *(*_COMMAND, "-i", self._interface, "-s", str(_SCRIPT), "-p", str(self._pid_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=RECORD_MAX,
        )
        assert process.stdout is not None
        try:
            while True:
                try:
                    record = await process.stdout.readuntil(END)
                except asyncio.IncompleteReadError:
                    return f"exit code {await process.wait()}"
                except asyncio.LimitOverrunError:
                    return "it said more than can be read"
                await self._hear(record)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                # its script may hold the pipe: we wait for its end, not for that of the pipe
                process._transport.close()  # type: ignore[attr-defined]
                await process.wait()

    async def _hear(self, record: bytes) -> None:
        try:
            lease = parse(record)
        except BadLease as error:
            _LOG.error("%s: %s", self._interface, error)
            return
        if lease is None and not (self.heard and b"event=deconfig\0" in record):
            return  # it only begins, or nobody answers: what is there stays
        self.heard = True
        if lease != self.lease:
            self.lease = lease
            _LOG.info("%s: %s", self._interface, lease or "the lease is over")
            await self._leased(self._interface)

    def _end_predecessor(self) -> None:
        """One that a killed service left behind would fight over the address."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        process = identify(pid)
        if process is not None and {b"udhcpc", os.fsencode(self._interface)} <= set(command):
            process.send(signal.SIGKILL)
