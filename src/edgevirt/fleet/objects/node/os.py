"""The software of an EdgeNode: what it should run, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgevirt.fleet.objects.base.amounts import check_counter
from edgevirt.fleet.objects.base.object import ApiStruct, Time
from edgevirt.fleet.objects.base.problems import Problem, forbidden, required

FALLBACK_PROPERTY = "force.fallback.counter"
"""What `spec.os.fallbackCounter` becomes on the way to the node."""


class NodeOS(ApiStruct, frozen=True, kw_only=True):
    """The software that the node should run."""

    image: str = ""
    """Name of an OSImage."""
    activate: bool = True
    """Whether to boot into it; when false it is fetched and verified only."""
    retry_counter: int = 0
    """Raise it to let the node try a version again that it fell back from."""
    fallback_counter: int = 0
    """Raise it to make the node go back to the version in its other slot, once."""


class OSSlot(ApiStruct, frozen=True, kw_only=True):
    """One of the two places for the node's software."""

    merge_keys = ("label",)

    label: str = ""
    """`IMGA` or `IMGB`."""
    version: str = ""
    """What is in it; empty: nothing."""
    state: str = ""
    """`active`, `updating`, `inprogress` or `unused`."""
    running: bool = False
    """Whether the node runs from it."""
    error: str = ""
    """What is wrong with it."""


class NodeOSStatus(ApiStruct, frozen=True, kw_only=True):
    """The software of the node, as of its last report."""

    version: str = ""
    """The version that is wanted; empty: any."""
    step: str = ""
    """How far it is: `Waiting`, `Downloading`, `Verifying`, `Staged`, `Deferred`, `Writing`,
    `Rebooting`, `Testing`, `Updated`, `Failed`, `FellBack`."""
    phase: str = ""
    """The same for people."""
    since: Time | None = None
    """When it came to this step."""
    begun: Time | None = None
    """When the node began with this update; absent: it has not, or it is over."""
    waiting: str = ""
    """Why the node does not get the version that is wanted; empty: it does."""
    slots: tuple[OSSlot, ...] = ()
    """Where its software is."""


def check_os(field: str, wanted: NodeOS, properties: Mapping[str, str]) -> Iterator[Problem]:
    if not wanted.image:
        yield required(f"{field}.image", "name an OSImage, or leave spec.os away")
    yield from check_counter(f"{field}.retryCounter", wanted.retry_counter)
    yield from check_counter(f"{field}.fallbackCounter", wanted.fallback_counter)
    if wanted.fallback_counter and FALLBACK_PROPERTY in properties:
        why = f"{field}.fallbackCounter says it already"
        yield forbidden(f"spec.properties[{FALLBACK_PROPERTY}]", why)
