"""The supervisor's voice: a small service of its own that speaks for it in the store.

The supervisor forks, so it must never have an event loop or a thread. This process has both. It
publishes what the supervisor tells it over their channel, and tells it what others want of the
whole node, and when its vault is open.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

import msgspec

from edgevirt.model import kinds
from edgevirt.model.machine import BootReason
from edgevirt.model.node import Operation, ServiceStatus
from edgevirt.model.trust import VaultState
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Gone, InStep, Put
from edgevirt.runtime.store import release

_LOG: Final = logging.getLogger("edgevirt.supervisor")
MESSAGE_MAX: Final = 65_536


class Told(msgspec.Struct, frozen=True):
    """supervisor → its voice."""

    name: str
    status: ServiceStatus


class Wish(msgspec.Struct, frozen=True):
    """The voice → supervisor: what the whole node is to do. `off`: instead of starting anew."""

    reason: BootReason
    why: str
    off: bool = False
    stack: str = ""


class Heard(msgspec.Struct, frozen=True, omit_defaults=True):
    """The voice → supervisor; one of them."""

    wish: Wish | None = None
    vault_open: bool = False
    vault_closed: bool = False
    """It said that it stays so, for now."""


def voice(channel: int) -> Service:
    """`channel`: a Unix socket that keeps messages apart, to the supervisor."""

    async def run(context: Context) -> None:
        with socket.socket(fileno=channel) as line:
            line.setblocking(False)
            async with asyncio.TaskGroup() as group:
                group.create_task(_publish(context, line))
                group.create_task(_pass_on_operations(context, line))
                group.create_task(_pass_on_reboots(context, line))
                group.create_task(_pass_on_vault(context, line))

    return Service(
        name="supervisor",
        reads=(kinds.AGENT_STATUS, kinds.NODE_REBOOT, kinds.VAULT_STATUS),
        owns=(kinds.SERVICE_STATUS,),
        run=run,
    )


async def _publish(context: Context, line: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    decode = msgspec.json.Decoder(list[Told]).decode
    while True:
        message = await loop.sock_recv(line, MESSAGE_MAX)
        if not message:
            return
        for told in decode(message):
            await context.store.put(kinds.SERVICE_STATUS, told.name, told.status)
        await release(context.store, [kinds.SERVICE_STATUS])


async def _pass_on_operations(context: Context, line: socket.socket) -> None:
    """Each once: an operation that is still there after a restart of this process was told."""
    loop = asyncio.get_running_loop()
    passed: Operation | None = None
    async for event in context.store.watch(kinds.AGENT_STATUS):
        if isinstance(event, InStep | Gone):
            continue
        operation = event.resource.value.operation
        if operation is not None and operation != passed:
            passed = operation
            _LOG.warning("the node is to %s: %s", operation.what, operation.why)
            off = operation.what != "reboot"
            reason = BootReason.POWEROFF_COMMAND if off else BootReason.REBOOT_COMMAND
            wish = Wish(reason=reason, why=operation.why, off=off)
            await loop.sock_sendall(line, msgspec.json.encode(Heard(wish=wish)))


async def _pass_on_reboots(context: Context, line: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async for event in context.store.watch(kinds.NODE_REBOOT):
        if isinstance(event, InStep | Gone):
            continue
        asked = event.resource.value
        _LOG.warning("the node is to restart: %s", asked.why)
        wish = Wish(reason=asked.reason, why=asked.why, stack=asked.stack)
        await loop.sock_sendall(line, msgspec.json.encode(Heard(wish=wish)))


async def _pass_on_vault(context: Context, line: socket.socket) -> None:
    """That it is closed, and once it is open, or known not to be encrypted; it is not closed again
    while the node runs.
    """
    loop = asyncio.get_running_loop()
    closed = False
    async for event in context.store.watch(kinds.VAULT_STATUS):
        if not isinstance(event, Put):
            continue
        if event.resource.value.usable:
            await loop.sock_sendall(line, msgspec.json.encode(Heard(vault_open=True)))
            return
        if event.resource.value.state is not VaultState.OPENING and not closed:
            closed = True
            await loop.sock_sendall(line, msgspec.json.encode(Heard(vault_closed=True)))


SERVICE: Final = voice(-1)
"""Its declaration; the process that runs gets one with a channel."""
