"""The process that speaks for the supervisor: both directions of its channel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edgevirt.model import kinds
from edgevirt.model.baseos import NodeReboot
from edgevirt.model.ids import NodeId
from edgevirt.model.machine import BootReason
from edgevirt.model.node import AgentState, AgentStatus, Operation, ServiceStatus
from edgevirt.model.trust import VaultState, VaultStatus
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.node.supervisor.status import MESSAGE_MAX, Heard, Told, Wish, voice
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore

REBOOT = Operation(what="reboot", counter=2, why="counter 2", at=1.0)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[tuple[socket.socket, MemoryStore]]:
    """The supervisor's end, and the store that the voice speaks into."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    store = MemoryStore()
    paths = Paths(config=tmp_path, persist=tmp_path, run=tmp_path)
    context = Context("supervisor", store, VirtualClock(), paths, Settings())
    running = asyncio.create_task(voice(theirs.detach()).run(context))
    yield ours, store
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    ours.close()


def agent(operation: Operation | None) -> AgentStatus:
    return AgentStatus(state=AgentState.ONLINE, since=1.0, node=NodeId("n"), operation=operation)


async def test_what_the_supervisor_tells_is_published(
    line: tuple[socket.socket, MemoryStore],
) -> None:
    ours, store = line
    status = ServiceStatus(pid=7, since=1.0, starts=2, last_exit="killed by SIGKILL")
    ours.send(msgspec.json.encode([Told("agent", status), Told("trust", status)]))
    watch = store.watch(kinds.SERVICE_STATUS)
    async for _ in watch:
        found = await store.list(kinds.SERVICE_STATUS)
        if len(found) == 2:
            break
    assert found["agent"].value == status


async def test_an_operation_reaches_the_supervisor_once(
    line: tuple[socket.socket, MemoryStore],
) -> None:
    ours, store = line
    loop = asyncio.get_running_loop()
    await store.put(kinds.AGENT_STATUS, "node", agent(None))
    await store.put(kinds.AGENT_STATUS, "node", agent(REBOOT))
    message = await loop.sock_recv(ours, MESSAGE_MAX)
    wish = msgspec.json.decode(message, type=Heard).wish
    assert wish is not None
    assert (wish.reason, wish.why, wish.off) == (BootReason.REBOOT_COMMAND, "counter 2", False)
    shutdown = msgspec.structs.replace(REBOOT, what="shutdown")
    await store.put(
        kinds.AGENT_STATUS, "node", msgspec.structs.replace(agent(REBOOT), last_contact=9.0)
    )
    await store.put(kinds.AGENT_STATUS, "node", agent(shutdown))
    message = await loop.sock_recv(ours, MESSAGE_MAX)
    heard = msgspec.json.decode(message, type=Heard)
    assert heard.wish is not None
    assert heard.wish.off


async def test_a_restart_that_baseos_asks_for_reaches_the_supervisor_with_its_reason(
    line: tuple[socket.socket, MemoryStore],
) -> None:
    ours, store = line
    asked = NodeReboot(reason=BootReason.FALLBACK, why="nobody answers", at=1.0, stack="f")
    await store.put(kinds.NODE_REBOOT, "node", asked)
    message = await asyncio.get_running_loop().sock_recv(ours, MESSAGE_MAX)
    wish = msgspec.json.decode(message, type=Heard).wish
    assert wish == Wish(reason=BootReason.FALLBACK, why="nobody answers", stack="f")


async def hear(ours: socket.socket) -> Heard:
    message = await asyncio.get_running_loop().sock_recv(ours, MESSAGE_MAX)
    return msgspec.json.decode(message, type=Heard)


@pytest.mark.parametrize("state", [VaultState.OPEN, VaultState.DISABLED])
async def test_the_supervisor_hears_once_that_the_vault_can_be_used(
    line: tuple[socket.socket, MemoryStore], state: VaultState
) -> None:
    ours, store = line
    for present in (VaultState.OPENING, state, state):
        await store.put(kinds.VAULT_STATUS, "vault", VaultStatus(state=present, since=1.0))
    assert await hear(ours) == Heard(vault_open=True)
    await store.put(kinds.VAULT_STATUS, "vault", VaultStatus(state=state, since=2.0))
    await store.put(kinds.AGENT_STATUS, "node", agent(REBOOT))
    assert (await hear(ours)).wish is not None


async def test_the_supervisor_hears_once_that_the_vault_stays_closed_and_then_that_it_is_open(
    line: tuple[socket.socket, MemoryStore],
) -> None:
    ours, store = line
    await store.put(kinds.VAULT_STATUS, "vault", VaultStatus(state=VaultState.CLOSED, since=1.0))
    assert await hear(ours) == Heard(vault_closed=True)
    await store.put(kinds.VAULT_STATUS, "vault", VaultStatus(state=VaultState.ERROR, since=2.0))
    await store.put(kinds.VAULT_STATUS, "vault", VaultStatus(state=VaultState.OPEN, since=3.0))
    assert await hear(ours) == Heard(vault_open=True)
