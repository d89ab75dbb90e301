"""Namespace: a project. Objects of different projects don't see each other."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition
from edgevirt.fleet.objects.base.problems import Problem

DEFAULT = "default"
"""Exists from the start, and cannot be deleted."""


class NamespaceSpec(ApiStruct, frozen=True, kw_only=True):
    """Nothing to choose."""

    finalizers: tuple[str, ...] = ()
    """Kept for clients; nothing waits for them."""


class NamespaceStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of the project."""

    phase: str = "Active"
    """`Active`, or `Terminating` while its objects are being deleted."""
    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class Namespace(ApiObject, frozen=True, kw_only=True):
    """A project: a place for objects that belong together."""

    spec: NamespaceSpec = NamespaceSpec()
    """What the project should be."""
    status: NamespaceStatus = NamespaceStatus()
    """What the project is."""


def validate(_namespace: Namespace) -> Iterator[Problem]:
    return iter(())


COLUMNS = (
    NAME,
    Column("Status", lambda n, _: n.status.phase, description="Active or Terminating"),
    AGE,
)
