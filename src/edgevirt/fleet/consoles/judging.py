"""Whether an app has a console to open right now, as far as the fleet knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app.app import BARE, CONTAINER, UNIKERNEL, App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import object_key
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.status.of_node import OFFLINE
from edgevirt.model.access import ConsoleKind
from edgevirt.model.ids import AppId
from edgevirt.runtime import Store

_INTERVAL: Final = "timer.config.interval"
_DEFAULT_INTERVAL: Final = 60.0
_ALIVE: Final = ("BOOTING", "RUNNING")


@dataclass(frozen=True)
class Place:
    """Where the app is. `node`: the EdgeNode's key. `interval`: seconds between its questions."""

    app: AppId
    node: str
    interval: float


async def judge(store: Store, instance: AppInstance, kind: ConsoleKind) -> Place:
    """Raises ApiError, with what helps."""
    meta = instance.metadata
    key = object_key(meta.namespace, instance.spec.edge_node)
    node = await store.get(kinds.EDGE_NODE, key)
    app = await store.get(kinds.APP, object_key(meta.namespace, instance.spec.app))
    if app is not None:
        _require_console(instance, app.value, kind)
    if node is None or not node.value.status.node_id:
        raise _conflict(instance, f"no machine is EdgeNode {instance.spec.edge_node} yet")
    if node.value.status.phase == OFFLINE:
        seen = node.value.status.last_seen
        raise _conflict(instance, f"{node.value.metadata.name} is offline, last seen {seen}")
    state = instance.status.state or "PENDING"
    if state not in _ALIVE:
        what = f" ({instance.status.what})" if instance.status.what else ""
        raise _conflict(instance, f"it is {state}{what}")
    return Place(AppId(meta.uid), key, _interval(node.value))


def _require_console(instance: AppInstance, app: App, kind: ConsoleKind) -> None:
    name = instance.metadata.name
    if app.virtualization == BARE:
        raise _conflict(
            instance,
            "a container on the node's own kernel has none; "
            f"`edgevirt logs -f {name}` shows what it prints",
        )
    if kind is ConsoleKind.VNC and app.spec.type in (CONTAINER, UNIKERNEL):
        raise _conflict(
            instance,
            f"a {app.spec.type.lower()} has no screen; "
            f"`edgevirt console {name}` is its serial line",
        )


def _conflict(instance: AppInstance, why: str) -> ApiError:
    name = instance.metadata.name
    return ApiError(409, "NotReady", f"cannot open a console of {name}: {why}")


def _interval(node: EdgeNode) -> float:
    try:
        return float(node.spec.properties.get(_INTERVAL, _DEFAULT_INTERVAL))
    except ValueError:
        return _DEFAULT_INTERVAL
