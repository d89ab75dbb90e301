"""AttestationPolicy: which software a project's nodes must prove that they booted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.names import check_labels
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition, StringSet
from edgevirt.fleet.objects.base.problems import Problem, duplicate, required, unsupported
from edgevirt.fleet.objects.software.registers import check_registers

ENFORCE = "Enforce"
REPORT = "Report"
MODES = (ENFORCE, REPORT)
FIRMWARE = (0, 1, 2, 3, 7)
"""Registers that the machine's firmware and its settings are measured into."""
CONFIG = 14
"""The register that the node's own CONFIG is measured into."""


class Accepted(ApiStruct, frozen=True, kw_only=True):
    """One state that is accepted: every register that is listed has one of its values."""

    merge_keys = ("name",)

    name: str = ""
    """What the state is called in a node's status."""
    registers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By the number of a register: the values that it may have, in hex."""


class LearnFrom(ApiStruct, frozen=True, kw_only=True):
    """OSImages whose measurements are accepted, besides what is listed."""

    all: bool = False
    """Every OSImage of the project that has measurements."""
    names: StringSet = ()
    """Names of OSImages."""


class NodeSelector(ApiStruct, frozen=True, kw_only=True):
    """Picks EdgeNodes of the project."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels that a node must have, all of them."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(name) == value for name, value in self.match_labels.items())


class AttestationPolicySpec(ApiStruct, frozen=True, kw_only=True):
    """Whom it concerns, and what they must prove."""

    mode: str = ENFORCE
    """`Enforce`: a node in another state gets no config, no secrets and no key of its vault.
    `Report`: its status says so, and nothing else happens."""
    node_selector: NodeSelector | None = None
    """Nodes that it is about; absent: all of the project that no other policy picks."""
    accepted: tuple[Accepted, ...] = ()
    """States that are accepted."""
    learn_from: LearnFrom | None = None
    """OSImages whose measurements are accepted too."""
    pin_firmware: bool = True
    """Whether the registers of firmware (0 to 3 and 7) must stay as they were when the node was
    first accepted."""
    pin_config: bool = True
    """Whether register 14, the node's CONFIG, must stay as it was when the node was first
    accepted."""
    require_tpm: bool = msgspec.field(default=False, name="requireTPM")
    """Whether nodes without a TPM are refused; else they are let in, and marked `SoftwareKey`."""


class AttestationPolicyStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class AttestationPolicy(ApiObject, frozen=True, kw_only=True):
    """Which software a project's nodes must prove that they booted."""

    spec: AttestationPolicySpec = AttestationPolicySpec()
    """Whom it concerns, and what they must prove."""
    status: AttestationPolicyStatus = AttestationPolicyStatus()
    """What is known of it."""

    @property
    def pinned(self) -> tuple[int, ...]:
        """Registers that are trusted on first use."""
        spec = self.spec
        firmware = FIRMWARE if spec.pin_firmware else ()
        return (*firmware, CONFIG) if spec.pin_config else firmware

    def learns_from(self, name: str) -> bool:
        learn = self.spec.learn_from
        return learn is not None and (learn.all or name in learn.names)

    def picks(self, labels: Mapping[str, str]) -> bool:
        """Whether its selector names a node with these labels; a default picks none."""
        selector = self.spec.node_selector
        return selector is not None and selector.matches(labels)


def policies_for(
    policies: Iterable[AttestationPolicy], labels: Mapping[str, str]
) -> list[AttestationPolicy]:
    """Those that apply to a node with these labels: what picks it, else the project's default.
    More than one is a mistake that admission refuses; it can still come from labels that an
    OnboardingKey gives.
    """
    known = sorted(policies, key=lambda p: p.metadata.name)
    picking = [policy for policy in known if policy.picks(labels)]
    return picking or [policy for policy in known if policy.spec.node_selector is None]


def validate(policy: AttestationPolicy) -> Iterator[Problem]:
    spec = policy.spec
    if spec.mode not in MODES:
        yield unsupported("spec.mode", spec.mode, MODES)
    if spec.node_selector is not None:
        labels = spec.node_selector.match_labels
        if not labels:
            yield required("spec.nodeSelector.matchLabels", "without a selector it is the default")
        yield from check_labels("spec.nodeSelector.matchLabels", labels)
    seen: set[str] = set()
    for index, entry in enumerate(spec.accepted):
        path = f"spec.accepted[{index}]"
        if not entry.name:
            yield required(f"{path}.name")
        elif entry.name in seen:
            yield duplicate(f"{path}.name", entry.name)
        seen.add(entry.name)
        if not entry.registers:
            yield required(f"{path}.registers", "a state without registers would accept anything")
        yield from check_registers(f"{path}.registers", entry.registers)
    learn = spec.learn_from
    if learn is not None and learn.all and learn.names:
        yield unsupported("spec.learnFrom.names", list(learn.names), (), "all of them are learned")
    if not spec.accepted and (learn is None or not (learn.all or learn.names)):
        yield required("spec.accepted", "or spec.learnFrom: nothing would ever be accepted")


def _learns(policy: AttestationPolicy, _now: float) -> str:
    learn = policy.spec.learn_from
    if learn is None:
        return "<none>"
    return "<all>" if learn.all else ",".join(learn.names) or "<none>"


def _nodes(policy: AttestationPolicy, _now: float) -> str:
    selector = policy.spec.node_selector
    if selector is None:
        return "<all others>"
    return ",".join(f"{name}={value}" for name, value in sorted(selector.match_labels.items()))


COLUMNS = (
    NAME,
    Column("Mode", lambda p, _: p.spec.mode),
    Column("Nodes", _nodes, description="The nodes that it is about"),
    Column("States", lambda p, _: len(p.spec.accepted), "integer",
           description="States that it lists"),
    Column("Learns", _learns, description="OSImages whose measurements it accepts"),
    AGE,
)  # fmt: skip
