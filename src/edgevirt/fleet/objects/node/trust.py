"""How far an EdgeNode is believed, and why."""

from __future__ import annotations

import msgspec

from edgevirt.fleet.objects.base.object import ApiStruct, Time


class RegisterDifference(ApiStruct, frozen=True, kw_only=True):
    """A register of the TPM that has another value than is accepted."""

    merge_keys = ("register",)

    register: int = 0
    """Its number."""
    got: str = ""
    """Its value, in hex."""
    expected: tuple[str, ...] = ()
    """Values that are accepted, in hex."""
    why: str = ""
    """What was measured into it that makes the difference, as far as the node's log tells."""


class NodeTrust(ApiStruct, frozen=True, kw_only=True):
    """What the node proved the last time, and how that was judged."""

    at: Time | None = None
    """When it proved it."""
    policy: str = ""
    """The AttestationPolicy that judged it; empty: there is none."""
    accepted_as: str = ""
    """The state that it was accepted as: one of the policy, or an OSImage."""
    barred: bool = False
    """Whether it gets no config and no keys until it proves a state that is accepted."""
    differences: tuple[RegisterDifference, ...] = ()
    """Registers that differ from the accepted state that comes nearest."""
    registers: dict[str, str] = msgspec.field(default_factory=dict)
    """Values of the registers that it quoted, in hex, by number."""
    pinned: dict[str, str] = msgspec.field(default_factory=dict)
    """Values that were trusted on first use, in hex, by the register's number."""
    log: str = ""
    """What its event log is worth: how many events, and whether they explain the registers."""
    firmware: str = ""
    """Version of its firmware, as it says."""
