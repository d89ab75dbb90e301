"""A group of an EdgeNode's devices, as the node tells of it."""

from __future__ import annotations

from edgevirt.fleet.objects.base.object import ApiStruct


class NodeAdapter(ApiStruct, frozen=True, kw_only=True):
    """Devices that apps can have together."""

    group: str = ""
    """Name of the group."""
    type: str = ""
    """What they are, as in the HardwareModel."""
    members: str = ""
    """Names of the devices."""
    used_by: str = ""
    """The AppInstance that has them; `node`: the node itself."""
    message: str = ""
    """What is wrong with them."""
