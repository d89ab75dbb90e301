"""Objects that were lost with a fleet's newer data, and are made again: the node has kept them.

A node whose config is held back tells what it has and this fleet does not know
(`status.heldConfig`). An AppInstance or a Volume that is made under the name of such a thing
becomes that thing: it gets the UID by which the node knows it, and the node keeps it with its data.
"""

from __future__ import annotations

import uuid
from typing import Any

from edgevirt.fleet.api.bodies.drafts import with_meta
from edgevirt.fleet.api.registry.snapshots import Snapshots
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import ApiObject, object_key
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.kinds import EDGE_NODE, ApiKind
from edgevirt.runtime import Store

_RANDOM = 4
"""Version of UUIDs that fleets give objects; an app's own volumes have others."""


async def take_up(
    store: Store, snapshots: Snapshots, kind: ApiKind[Any], value: ApiObject
) -> tuple[ApiObject, str]:
    """`value`, which is new, and in words whose place it takes; empty: nobody's."""
    if not isinstance(value, AppInstance | Volume):
        return value, ""
    meta, node_name = value.metadata, value.spec.edge_node
    node = await store.get(EDGE_NODE, object_key(meta.namespace, node_name))
    held = node.value.status.held_config if node is not None else None
    if held is None:
        return value, ""
    kept = held.apps if isinstance(value, AppInstance) else held.volumes
    uid = next((one.id for one in kept if one.name == meta.name and _is_object(one.id)), "")
    present = (await snapshots.take(kind.store)).values.values() if uid else ()
    if not uid or any(one.value.metadata.uid == uid for one in present):
        return value, ""
    words = f'{kind.name} "{meta.name}" takes up what EdgeNode "{node_name}" has by this name'
    return with_meta(value, uid=uid), f"{words} ({uid})"


def _is_object(id: str) -> bool:
    """A node is not believed."""
    try:
        parsed = uuid.UUID(id)
    except ValueError:
        return False
    return parsed.version == _RANDOM and str(parsed) == id
