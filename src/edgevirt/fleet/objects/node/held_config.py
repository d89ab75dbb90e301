"""Why an EdgeNode gets no config for now, and what it would cost to give it one."""

from __future__ import annotations

from edgevirt.fleet.objects.base.object import ApiStruct, Time


class KeptOnNode(ApiStruct, frozen=True, kw_only=True):
    """Something that the node has, and its config has not."""

    merge_keys = ("id",)

    name: str = ""
    """As the node names it."""
    id: str = ""
    """Its UUID on the node."""


class HeldConfig(ApiStruct, frozen=True, kw_only=True):
    """A config that is held back, since the node has a newer one than this fleet knows of."""

    mark: str = ""
    """What `spec.overwriteConfig` has to be to let the config go: the hash of the one that the node
    has, or when the fleet was restored, until the node shows one."""
    since: Time | None = None
    """When that was seen."""
    told_at: Time | None = None
    """When the node last told what it has; absent: not since then."""
    apps: tuple[KeptOnNode, ...] = ()
    """Apps that it would delete."""
    volumes: tuple[KeptOnNode, ...] = ()
    """Volumes that it would delete, with what is on them."""
    version: str = ""
    """Version of the node's software that it would change to; empty: none."""
