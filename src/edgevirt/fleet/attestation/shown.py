"""What an EdgeNode's status shows of a verdict, for people to read. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgevirt.fleet.attestation import eventlog
from edgevirt.fleet.attestation.judging import UNTRUSTED, Verdict
from edgevirt.fleet.nodes.devices import Evidence
from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.trust import NodeTrust
from edgevirt.wire.event_log import EventLogError


def log_worth(packed: bytes, values: Mapping[int, bytes]) -> str:
    """What an event log is worth, in words."""
    if not packed:
        return "none was sent"
    try:
        events = eventlog.unpack(packed)
    except EventLogError as error:
        return str(error)
    wrong = eventlog.unexplained(events, values)
    if wrong:
        numbers = ", ".join(str(number) for number in wrong)
        return f"{len(events)} events; they do not explain register {numbers}"
    told = eventlog.explained(events, values)
    return f"{len(events)} events; they explain the registers {', '.join(map(str, told)) or 'none'}"


def reason(node: EdgeNode) -> str:
    """Why it is believed or not, as shown; empty: nothing is."""
    return next((c.message for c in node.status.conditions if c.type == "Attested"), "")


def show(node: EdgeNode, verdict: Verdict, evidence: Evidence | None, now: float) -> EdgeNode:
    """`evidence`: what it was judged by; None: nothing that counts."""
    believed = verdict.level != UNTRUSTED
    condition = Condition(
        type="Attested",
        status="True" if believed else "False",
        reason=verdict.reason,
        message=verdict.why,
    )
    values = dict(evidence.values) if evidence is not None else {}
    trust = NodeTrust(
        at=timestamp(evidence.at if evidence is not None else now),
        policy=verdict.policy,
        accepted_as=verdict.accepted_as,
        barred=not verdict.granted,
        differences=verdict.differences,
        registers={str(number): value.hex() for number, value in sorted(values.items())},
        pinned={str(number): value.hex() for number, value in sorted(verdict.pins.items())},
        log=log_worth(evidence.log, values) if evidence is not None else "",
        firmware=evidence.firmware if evidence is not None else "",
    )
    before = node.status.attestation
    if evidence is None and not believed and before is not None:
        trust = msgspec.structs.replace(before, barred=True)  # it showed nothing that counts
    status = msgspec.structs.replace(
        node.status,
        conditions=set_condition(node.status.conditions, condition, now),
        trust=verdict.level,
        attestation=trust,
    )
    return msgspec.structs.replace(node, status=status)


def differs(node: EdgeNode, shown: EdgeNode) -> bool:
    """But for the time: a node that is refused comes back every few seconds."""
    held, new = node.status.attestation, shown.status.attestation
    if held is None or new is None:
        return True
    same = msgspec.structs.replace(new, at=held.at) == held
    refused = shown.status.trust == UNTRUSTED
    return not (same and refused and node.status.conditions == shown.status.conditions)
