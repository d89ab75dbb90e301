"""Whether a node may be believed: what it quoted, beside what its policy accepts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgevirt.fleet.attestation import event_words, eventlog
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.trust import RegisterDifference
from edgevirt.fleet.objects.software.attestation import ENFORCE, AttestationPolicy, policies_for
from edgevirt.fleet.objects.software.os_image import OSImage
from edgevirt.wire.event_log import Event

ATTESTED: Final = "Attested"
SOFTWARE_KEY: Final = "SoftwareKey"
UNTRUSTED: Final = "Untrusted"

Registers = Mapping[int, bytes]
"""Values by number."""


@dataclass(frozen=True)
class Rules:
    """What a project demands: its policies, and the OSImages that they may learn from."""

    policies: Sequence[AttestationPolicy] = ()
    images: Sequence[OSImage] = ()


@dataclass(frozen=True)
class Shown:
    """What a node showed. `values`: the registers that it quoted; `pins`: those that were trusted
    on first use; `events`: of its log, None where there is none to be read; `accepted`: the events
    of the last time that it was accepted.
    """

    values: Registers
    pins: Registers = field(default_factory=dict)
    events: tuple[Event, ...] | None = None
    accepted: tuple[Event, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """`granted`: whether it gets a config and its keys. `pins`: what to trust from now on."""

    level: str
    reason: str
    why: str
    granted: bool
    policy: str = ""
    accepted_as: str = ""
    differences: tuple[RegisterDifference, ...] = ()
    pins: Registers = field(default_factory=dict)


@dataclass(frozen=True)
class _State:
    """A state that would be accepted, and what of the node differs from it."""

    name: str
    registers: Mapping[int, tuple[bytes, ...]]
    differing: tuple[int, ...]


def judge_quote(node: EdgeNode, rules: Rules, shown: Shown) -> Verdict:
    """Of a node whose quote is genuine."""
    found = policies_for(rules.policies, node.metadata.labels)
    if not found:
        why = "its security module proved its state; no AttestationPolicy says what it should be"
        return Verdict(ATTESTED, ATTESTED, why, granted=True, pins=shown.pins)
    if len(found) > 1:
        return _ambiguous(found, shown.pins)
    (policy,) = found
    states = list(_states(node, policy, rules.images, shown))
    if not states:
        why = "its AttestationPolicy accepts no state: it learns from no OSImage that was measured"
        return _refuse(policy, "NothingAccepted", why, (), shown.pins)
    nearest = min(states, key=lambda state: (len(state.differing), state.name))
    if nearest.differing:
        return _refuse_state(policy, nearest, shown)
    seen = {number: shown.values[number] for number in policy.pinned if number in shown.values}
    why = f"its security module proved the state {nearest.name}"
    return Verdict(
        ATTESTED, ATTESTED, why, granted=True, policy=policy.metadata.name,
        accepted_as=nearest.name, pins={**shown.pins, **seen},
    )  # fmt: skip


def judge_software(node: EdgeNode, rules: Rules) -> Verdict:
    """Of a node without a security module."""
    found = policies_for(rules.policies, node.metadata.labels)
    if len(found) > 1:
        return _ambiguous(found, {})
    for policy in found:
        if policy.spec.require_tpm:
            why = "it has no security module, and its AttestationPolicy requires one"
            return _refuse(policy, "NoSecurityModule", why, (), {})
    name = found[0].metadata.name if found else ""
    why = "it has no security module: what it says of itself is not proven"
    return Verdict(SOFTWARE_KEY, SOFTWARE_KEY, why, granted=True, policy=name)


def _ambiguous(found: Sequence[AttestationPolicy], pins: Registers) -> Verdict:
    names = " and ".join(policy.metadata.name for policy in found)
    why = f"AttestationPolicies {names} would both judge it: change its labels"
    return Verdict(UNTRUSTED, "Ambiguous", why, granted=False, pins=pins)


# -- states --


def _states(
    node: EdgeNode, policy: AttestationPolicy, images: Iterable[OSImage], shown: Shown
) -> Iterator[_State]:
    own = _read(node.spec.trusted_registers)
    for name, listed in _accepted(policy, images):
        demanded = dict(_read(listed))
        for number in policy.pinned:
            if number not in demanded and number in shown.pins:
                demanded[number] = (shown.pins[number],)
        for number in demanded.keys() & own.keys():
            demanded[number] = (*demanded[number], *own[number])
        differing = tuple(
            sorted(n for n, values in demanded.items() if shown.values.get(n) not in values)
        )
        yield _State(name, demanded, differing)


def _accepted(
    policy: AttestationPolicy, images: Iterable[OSImage]
) -> Iterator[tuple[str, Mapping[str, tuple[str, ...]]]]:
    for entry in policy.spec.accepted:
        yield entry.name, entry.registers
    for image in images:
        if image.spec.measurements and policy.learns_from(image.metadata.name):
            yield f"osimage/{image.metadata.name}", image.spec.measurements


def _read(registers: Mapping[str, tuple[str, ...]]) -> dict[int, tuple[bytes, ...]]:
    return {
        int(number): tuple(bytes.fromhex(value) for value in values)
        for number, values in registers.items()
    }


# -- refusals --


def _refuse_state(policy: AttestationPolicy, state: _State, shown: Shown) -> Verdict:
    differences = tuple(_difference(number, state, shown) for number in state.differing)
    numbers = ", ".join(str(number) for number in state.differing)
    many = "registers" if len(differences) > 1 else "register"
    verb = "differ" if len(differences) > 1 else "differs"
    why = f"{many} {numbers} {verb} from the state {state.name}: {differences[0].why}"
    return _refuse(policy, "RegistersDiffer", why, differences, shown.pins)


def _refuse(
    policy: AttestationPolicy,
    reason: str,
    why: str,
    differences: tuple[RegisterDifference, ...],
    pins: Registers,
) -> Verdict:
    enforced = policy.spec.mode == ENFORCE
    words = why if enforced else f"{why} (its policy only reports)"
    return Verdict(
        UNTRUSTED, reason, words, granted=not enforced, policy=policy.metadata.name,
        differences=differences, pins=pins,
    )  # fmt: skip


def _difference(number: int, state: _State, shown: Shown) -> RegisterDifference:
    value = shown.values.get(number)
    return RegisterDifference(
        register=number,
        got=value.hex() if value is not None else "",
        expected=tuple(expected.hex() for expected in state.registers[number]),
        why=_explain(number, value, shown),
    )


def _explain(number: int, value: bytes | None, shown: Shown) -> str:
    if value is None:
        return "it was not quoted"
    if not any(value):
        return "nothing was measured into it"
    if shown.events is None:
        return "there is no event log that tells what was measured into it"
    if number in eventlog.unexplained(shown.events, shown.values):
        return "the event log tells another story than the register"
    before = eventlog.of_register(shown.accepted, number) if shown.accepted is not None else None
    return event_words.explain(number, eventlog.of_register(shown.events, number), before)
