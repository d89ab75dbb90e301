"""Starts a host-mode node of the content services alone, each with its row's rights.

In the place of the agent, trust, apps and domains stand stand-ins: the agent wants one signed image
on a volume and one blank volume, and writes what it is told of them to `checkpoint/seen.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec.structs import replace

from edgevirt.host.files import write_whole
from edgevirt.model import kinds
from edgevirt.model.content import ContentFormat, ContentTree, Datastore, DatastoreType
from edgevirt.model.ids import ContentTreeId, DatastoreId, VolumeId
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.model.volume import Volume, VolumeOrigin
from edgevirt.node.launch import CONTROLLER, HostNode, run_host_node
from edgevirt.node.service import Context, Service
from edgevirt.node.services import ROWS
from edgevirt.runtime import Kind
from edgevirt.runtime.store import release

PORT = 5000
STORE = DatastoreId("d0000000-0000-0000-0000-000000000001")
TREE = ContentTreeId("c0000000-0000-0000-0000-000000000001")
ROOT = VolumeId("b0000000-0000-0000-0000-000000000001")
DATA = VolumeId("b0000000-0000-0000-0000-000000000002")
AGENT_KINDS = (
    kinds.DATASTORE,
    kinds.CONTENT_TREE,
    kinds.VOLUME,
    kinds.PROPERTY,
    kinds.AGENT_STATUS,
    kinds.BASE_OS,
)
SEEN: tuple[Kind[Any], ...] = (kinds.CONTENT_TREE_STATUS, kinds.VOLUME_STATUS)
REAL = ("downloader", "verifier", "volumes", "supervisor")


async def be_agent(context: Context) -> None:
    store = context.store
    near = Datastore(
        id=STORE, type=DatastoreType.CONTAINER_REGISTRY, fqdn=f"docker://registry.local:{PORT}"
    )
    image = ContentTree(
        id=TREE,
        datastores=(STORE,),
        url="apps/hello:1",
        format=ContentFormat.CONTAINER,
        signers=tuple(json.loads(sys.argv[1])["signers"]),
    )
    root = Volume(id=ROOT, origin=VolumeOrigin.DOWNLOAD, content_tree=TREE)
    data = Volume(id=DATA, origin=VolumeOrigin.BLANK, max_size=16 << 20)
    online = AgentStatus(state=AgentState.ONLINE, since=1.0, config_from="controller")
    await store.put(kinds.DATASTORE, STORE, near)
    await store.put(kinds.CONTENT_TREE, TREE, image)
    for volume in (root, data):
        await store.put(kinds.VOLUME, volume.key, volume)
    await store.put(kinds.AGENT_STATUS, "node", online)
    await release(store, AGENT_KINDS)
    while True:
        seen = {
            kind.name: {key: item.value for key, item in (await store.list(kind)).items()}
            for kind in SEEN
        }
        write_whole(context.paths.checkpoint / "seen.json", msgspec.json.encode(seen))
        await asyncio.sleep(0.2)


async def be_silent(context: Context) -> None:
    owned: dict[str, tuple[Kind[Any], ...]] = {
        "trust": (kinds.CREDENTIALS,),
        "apps": (kinds.VOLUME_USE, kinds.SNAPSHOT),
        "domains": (kinds.DOMAIN_STATUS,),
    }
    await release(context.store, owned[context.name])
    await asyncio.Event().wait()


def stand_in(
    name: str,
    owns: tuple[Kind[Any], ...],
    run: Callable[[Context], Coroutine[Any, Any, None]],
    reads: tuple[Kind[Any], ...] = (),
) -> str:
    module = ModuleType(f"stand_in_{name}")
    module.SERVICE = Service(name=name, reads=reads, owns=owns, run=run)  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module.__name__


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    modules = {
        "agent": stand_in("agent", AGENT_KINDS, be_agent, SEEN),
        "trust": stand_in("trust", (kinds.CREDENTIALS,), be_silent),
        "apps": stand_in("apps", (kinds.VOLUME_USE, kinds.SNAPSHOT), be_silent),
        "domains": stand_in("domains", (kinds.DOMAIN_STATUS,), be_silent),
    }
    rows = [replace(row, module=modules.get(row.name, row.module)) for row in ROWS]
    node = HostNode(
        state=Path(wanted["state"]),
        config=Path(wanted["config"]),
        hosts={"registry.local": CONTROLLER},
        forwards={PORT: wanted["registry"]},
        rows=tuple(row for row in rows if row.name in {*REAL, *modules}),
    )
    sys.exit(run_host_node(node))
