"""From a node's device info to what is told of its devices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.fleet.objects.node.adapter import NodeAdapter
from edgevirt.fleet.objects.node.hardware_model import TYPES
from edgevirt.model.hardware import IoType
from edgevirt.wire.messages import info

NODE: Final = "node"
_MOST: Final = 256
_WORDS: Final = 500
_NAMES: Final = {int(kind): name for name, kind in TYPES.items() if kind is not IoType.OTHER}


def read(device: info.ZInfoDevice) -> Iterator[NodeAdapter]:
    """Those of apps by their names, as device info has them."""
    apps = {app.uuid: app.name for app in device.appInstances}
    for bundle in device.assignableAdapters[:_MOST]:
        user = bundle.usedByAppUUID
        yield NodeAdapter(
            group=bundle.name[:_WORDS],
            type=_NAMES.get(bundle.type, "Other"),
            members=", ".join(bundle.members)[:_WORDS],
            used_by=NODE if bundle.usedByBaseOS else apps.get(user, user),
            message=bundle.err.description[:_WORDS],
        )
