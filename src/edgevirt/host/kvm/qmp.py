"""A QEMU's monitor: one command at a time, each with a bound on how long its answer may take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import msgspec
from qemu.qmp import QMPClient, QMPError

from edgevirt.host.hypervisor import HypervisorError

SECONDS: Final = 10.0
STARTING: Final = 60.0
"""Seconds for a QEMU's first answer: it reads its kernel before, from a disk that may be slow."""
HANDED: Final = "handed"

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


class _Image(msgspec.Struct, rename="kebab"):
    virtual_size: int


class _Inserted(msgspec.Struct):
    image: _Image


class _Block(msgspec.Struct):
    """One of `query-block`."""

    device: str
    inserted: _Inserted | None = None


def decode_sizes(said: object) -> dict[str, int]:
    """Bytes by the drive's name. Raises HypervisorError."""
    try:
        found = msgspec.convert(said, list[_Block])
    except msgspec.ValidationError as failure:
        raise HypervisorError(f"cannot see the machine's disks: {failure}") from failure
    return {one.device: one.inserted.image.virtual_size for one in found if one.inserted}


async def ask(
    monitor: Path, command: str, *, within: float = SECONDS, **arguments: object
) -> object:
    """What QEMU returns, `within` seconds. Raises HypervisorError, also when it is silent or gone.

    A monitor serves one client: calls for one machine must not overlap.
    """
    async with _talk(monitor, f"ask the machine for {command}", within) as (client, _):
        return await client.execute(command, arguments or None)


async def lend(
    monitor: Path, file: int, number: int, command: str, arguments: dict[str, object]
) -> None:
    """A command that opens `/dev/fdset/<number>`, which is `file`. As `ask`.

    In one conversation: at the end of it QEMU forgets a file that nothing opened.
    """
    async with _talk(monitor, f"ask the machine for {command}") as (client, line):
        _hand(line, file)
        await client.execute("add-fd", {"fdset-id": number})
        await client.execute(command, arguments)


async def give(
    monitor: Path, handed: socket.socket, commands: Iterable[tuple[str, dict[str, object]]]
) -> None:
    """Hands a descriptor over under the name HANDED, then gives the commands. As `ask`."""
    async with _talk(monitor, "reach the machine") as (client, line):
        _hand(line, handed.fileno())
        await client.execute("getfd", {"fdname": HANDED})
        for command, arguments in commands:
            await client.execute(command, arguments)


@contextlib.asynccontextmanager
async def _talk(
    monitor: Path, what: str, within: float = SECONDS
) -> AsyncIterator[tuple[QMPClient, socket.socket]]:
    """The client, and the same connection once more for descriptors: an event loop keeps its own
    to itself. Raises HypervisorError.
    """
    client = QMPClient("edgevirt")
    try:
        async with asyncio.timeout(within):
            with socket.socket(socket.AF_UNIX) as connected:
                connected.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connected, str(monitor))
                line = connected.dup()
                with line:
                    await client.connect(connected)
                    yield client, line
    except TimeoutError as failure:
        why = f"its monitor is silent for {within:.0f} s"
        raise HypervisorError(f"cannot {what}: {why}") from failure
    except (QMPError, OSError) as failure:
        raise HypervisorError(f"cannot {what}: {failure}") from failure
    finally:
        await _leave(client)


def _hand(line: socket.socket, descriptor: int) -> None:
    """With a blank, which is nothing between two commands."""
    socket.send_fds(line, [b" "], [descriptor])


async def _leave(client: QMPClient) -> None:
    try:
        async with asyncio.timeout(1.0):
            await client.disconnect()
    except (QMPError, OSError, EOFError, TimeoutError):
        pass  # it was told all that it had to be
