"""A QEMU's monitor: one command at a time, each with a bound on how long its answer may take."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Final

import msgspec
from qemu.qmp import QMPClient, QMPError

from edgevirt.host.hypervisor import HypervisorError

SECONDS: Final = 10.0

# it calls a QEMU that ends an error
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class GuestCpu(msgspec.Struct, rename="kebab"):
    """One of `query-cpus-fast`."""

    cpu_index: int
    thread_id: int


def decode_cpus(said: object) -> list[GuestCpu]:
    """In their order. Raises HypervisorError."""
    try:
        found = msgspec.convert(said, list[GuestCpu])
    except msgspec.ValidationError as failure:
        raise HypervisorError(f"cannot place the machine's CPUs: {failure}") from failure
    return sorted(found, key=lambda cpu: cpu.cpu_index)


async def ask(
    monitor: Path, command: str, file: int | None = None, /, **arguments: object
) -> object:
    """What QEMU returns. Raises HypervisorError, also when it is silent or gone. `file`: a
    descriptor that it gets with the command.

    A monitor serves one client: calls for one machine must not overlap.
    """
    client = QMPClient("edgevirt")
    try:
        async with asyncio.timeout(SECONDS):
            await client.connect(str(monitor))
            if file is not None:
                _send_file(client, file)
            return await client.execute(command, arguments or None)
    except TimeoutError as failure:
        why = f"its monitor is silent for {SECONDS:.0f} s"
        raise HypervisorError(f"cannot ask the machine for {command}: {why}") from failure
    except (QMPError, OSError) as failure:
        raise HypervisorError(f"cannot ask the machine for {command}: {failure}") from failure
    finally:
        await _leave(client)


def _send_file(client: QMPClient, file: int) -> None:
    """The client's own way to do so does not know uvloop's sockets."""
    writer = client._writer
    assert writer is not None  # it is connected
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as line:
        socket.send_fds(line, [b" "], [file])


async def _leave(client: QMPClient) -> None:
    try:
        async with asyncio.timeout(1.0):
            await client.disconnect()
    except (QMPError, OSError, EOFError, TimeoutError):
        pass  # it was told all that it had to be
