"""In the place of the agent: wants a reboot at the node's first start, a shutdown at its second."""

from __future__ import annotations

import asyncio

import msgspec

from edgevirt.model import kinds
from edgevirt.model.machine import Boot
from edgevirt.model.node import AgentState, AgentStatus, Operation
from edgevirt.node.service import Context, Service
from edgevirt.runtime.store import release

WANTED = {1: "reboot", 2: "shutdown"}


async def run(context: Context) -> None:
    boot = msgspec.json.decode(context.paths.boot_record.read_bytes(), type=Boot)
    what = WANTED[boot.count]
    wanted = Operation(what=what, counter=boot.count, why=f"a test wants a {what}", at=1.0)
    status = AgentStatus(state=AgentState.ONLINE, since=1.0, operation=wanted)
    await context.store.put(kinds.AGENT_STATUS, "node", status)
    await release(context.store, (kinds.AGENT_STATUS,))
    await asyncio.Event().wait()


SERVICE = Service(name="agent", reads=(), owns=(kinds.AGENT_STATUS,), run=run)
