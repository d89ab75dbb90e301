"""OnboardingKey and EnrollmentRequest: how a new machine becomes a node of the fleet."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from cryptography import x509

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column, condition_status
from edgevirt.fleet.objects.base.names import check_labels, check_subdomain
from edgevirt.fleet.objects.base.object import (
    ApiObject,
    ApiStruct,
    Condition,
    LocalRef,
    StringSet,
    Time,
    set_condition,
)
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required

ANY_SERIAL = "*"


class OnboardingKeySpec(ApiStruct, frozen=True, kw_only=True):
    """Whom the key lets in."""

    certificate: str = ""
    """The onboarding certificate that the machines carry, in PEM."""
    serials: StringSet = ()
    """Serial numbers, of hardware or soft, that may use the key; `*` stands for all."""
    auto_approve: bool = False
    """Whether a machine becomes an EdgeNode at once, without an EnrollmentRequest."""
    node_labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels to put on the EdgeNodes that come in by this key."""


class OnboardingKeyStatus(ApiStruct, frozen=True, kw_only=True):
    """How the key was used."""

    uses: int = 0
    """How many machines came in by it."""
    last_used: Time | None = None
    """When it was last used."""
    common_name: str = ""
    """Common name of the certificate."""
    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class OnboardingKey(ApiObject, frozen=True, kw_only=True):
    """A certificate that lets machines into this project."""

    spec: OnboardingKeySpec = OnboardingKeySpec()
    """Whom the key lets in."""
    status: OnboardingKeyStatus = OnboardingKeyStatus()
    """How it was used."""


class EnrollmentRequestSpec(ApiStruct, frozen=True, kw_only=True):
    """A machine that asks to become a node, and the answer."""

    serial: str = ""
    """Serial number of the hardware."""
    soft_serial: str = ""
    """Serial number that was given at installation."""
    device_certificate: str = ""
    """The machine's own certificate, in PEM."""
    onboarding_key_ref: LocalRef | None = None
    """The OnboardingKey that it showed."""
    approved: bool | None = None
    """The answer: true lets it in, false refuses it; absent while nobody has decided."""
    node_name: str = ""
    """Name of the EdgeNode to make; empty: made from the serial number."""
    node_labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels to put on the EdgeNode."""


class EnrollmentRequestStatus(ApiStruct, frozen=True, kw_only=True):
    """What became of the request."""

    conditions: tuple[Condition, ...] = ()
    """`Approved`, `Denied`, `Enrolled`."""
    fingerprint: str = ""
    """SHA-256 of the machine's certificate, to compare with what it shows on its screen."""
    edge_node: str = ""
    """The EdgeNode that was made."""
    last_seen: Time | None = None
    """When the machine last asked."""


class EnrollmentRequest(ApiObject, frozen=True, kw_only=True):
    """A machine that asks to become a node. Made by the fleet; people approve or deny it."""

    spec: EnrollmentRequestSpec = EnrollmentRequestSpec()
    """Who asks, and the answer."""
    status: EnrollmentRequestStatus = EnrollmentRequestStatus()
    """What became of it."""


def check_certificate(field: str, pem: str, *, hint: str = "") -> Iterator[Problem]:
    """One certificate in PEM."""
    if not pem.strip():
        yield required(field, hint or "a certificate in PEM")
        return
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        yield invalid(field, pem[:40], "must be a certificate in PEM")
        return
    if len(found) != 1:
        yield invalid(field, pem[:40], f"must be one certificate, found {len(found)}")


def decide(
    request: EnrollmentRequest, old: EnrollmentRequest | None, by: str, now: float
) -> EnrollmentRequest:
    """With the conditions that a new answer makes; they say who gave it."""
    answer = request.spec.approved
    if answer == (old.spec.approved if old else None):
        return request
    conditions = request.status.conditions
    for type, holds in (("Approved", answer is True), ("Denied", answer is False)):
        new = Condition(
            type=type,
            status="True" if holds else "False",
            reason="Decided" if answer is not None else "Undecided",
            message=f"by {by}" if answer is not None else "",
        )
        conditions = set_condition(conditions, new, now)
    status = msgspec.structs.replace(request.status, conditions=conditions)
    return msgspec.structs.replace(request, status=status)


def validate_key(key: OnboardingKey) -> Iterator[Problem]:
    spec = key.spec
    yield from check_certificate("spec.certificate", spec.certificate)
    if not spec.serials:
        yield required("spec.serials", "list the serial numbers, or '*' for any")
    for index, serial in enumerate(spec.serials):
        if not serial.strip():
            yield required(f"spec.serials[{index}]")
        if serial in spec.serials[:index]:
            yield duplicate(f"spec.serials[{index}]", serial)
    yield from check_labels("spec.nodeLabels", spec.node_labels)


def validate_request(request: EnrollmentRequest) -> Iterator[Problem]:
    spec = request.spec
    yield from check_certificate("spec.deviceCertificate", spec.device_certificate)
    if not (spec.serial or spec.soft_serial):
        yield required("spec.serial", "give the serial, the softSerial, or both")
    if spec.node_name:
        yield from check_subdomain("spec.nodeName", spec.node_name)
    yield from check_labels("spec.nodeLabels", spec.node_labels)


def _answer(request: EnrollmentRequest, _now: float) -> str:
    if request.spec.approved is None:
        return "Pending"
    if not request.spec.approved:
        return "Denied"
    return "Enrolled" if request.status.edge_node else "Approved"


KEY_COLUMNS = (
    NAME,
    Column("Auto Approve", lambda k, _: str(k.spec.auto_approve).lower()),
    Column(
        "Serials", lambda k, _: ",".join(k.spec.serials[:3]) + ("…" * (len(k.spec.serials) > 3))
    ),
    Column(
        "Uses", lambda k, _: k.status.uses, "integer", description="Machines that came in by it"
    ),
    Column("Valid", lambda k, _: condition_status(k.status.conditions, "Valid"), priority=1),
    AGE,
)
REQUEST_COLUMNS = (
    NAME,
    Column("Serial", lambda r, _: r.spec.serial or r.spec.soft_serial),
    Column("State", _answer, description="Pending, Approved, Denied or Enrolled"),
    Column("Node", lambda r, _: r.status.edge_node or "<none>", description="EdgeNode made of it"),
    Column("Fingerprint", lambda r, _: r.status.fingerprint, priority=1),
    AGE,
)
