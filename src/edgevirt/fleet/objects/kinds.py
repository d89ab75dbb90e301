"""The table of the operators' API: every kind, its names, its value, its rules, its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from edgevirt.fleet.objects import network_instance
from edgevirt.fleet.objects.app import app
from edgevirt.fleet.objects.app import instance as app_instance
from edgevirt.fleet.objects.base.columns import Column
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.base.problems import Problem
from edgevirt.fleet.objects.content import datastore, image, volume
from edgevirt.fleet.objects.core import event, event_view, namespace, secret
from edgevirt.fleet.objects.node import edgenode, hardware_model, onboarding
from edgevirt.fleet.objects.software import attestation, os_image
from edgevirt.runtime.resource import Kind

T = TypeVar("T", bound=ApiObject)

GROUP = "edgevirt.io"
VERSION = "v1alpha1"


@dataclass(frozen=True)
class View:
    """Another form in which the same objects are served."""

    type: type[ApiObject]
    outward: Callable[[Any], Any]
    """From what is stored."""
    inward: Callable[[Any], Any]


def _no_warning(_value: Any, _old: Any) -> Iterable[str]:
    return ()


def _no_change(_value: Any, _old: Any) -> Iterable[Problem]:
    return ()


def _as_is(value: Any, _old: Any, _by: str, _now: float) -> Any:
    return value


@dataclass(frozen=True)
class ApiKind(Generic[T]):
    """One row. `store` is the kind's table in the Store, keyed by `object_key`."""

    name: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    store: Kind[T]
    columns: tuple[Column, ...]
    validate: Callable[[Any], Iterable[Problem]]
    group: str = GROUP
    version: str = VERSION
    namespaced: bool = True
    has_status: bool = True
    """Whether it has a spec and a `/status` subresource."""
    selectable: tuple[str, ...] = ()
    """Fields for `--field-selector`, besides the name and the namespace."""
    immutable: tuple[str, ...] = ()
    """Fields that cannot change once they are set."""
    check_change: Callable[[Any, Any], Iterable[Problem]] = _no_change
    """What else must not change so, from (the new value, the old one), if both are valid."""
    settle: Callable[[Any, Any, str, float], Any] = _as_is
    """Before validation, from (the new value, the old one or None, who writes, the wall clock):
    the value to keep."""
    warn: Callable[[Any, Any], Iterable[str]] = _no_warning
    """What a writer should know, from (the new value, the old one or None)."""
    view: View | None = None

    @property
    def type(self) -> type[ApiObject]:
        """The struct that is served."""
        return self.view.type if self.view else self.store.type

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


NAMESPACE = Kind("Namespace", namespace.Namespace, persistent=True)
SECRET = Kind("Secret", secret.Secret, persistent=True)
"""Values are sealed (see core/sealing.py)."""
EVENT = Kind("Event", event.Event, persistent=True)
ONBOARDING_KEY = Kind("OnboardingKey", onboarding.OnboardingKey, persistent=True)
ENROLLMENT_REQUEST = Kind("EnrollmentRequest", onboarding.EnrollmentRequest, persistent=True)
EDGE_NODE = Kind("EdgeNode", edgenode.EdgeNode, persistent=True)
DATASTORE = Kind("Datastore", datastore.Datastore, persistent=True)
IMAGE = Kind("Image", image.Image, persistent=True)
OS_IMAGE = Kind("OSImage", os_image.OSImage, persistent=True)
HARDWARE_MODEL = Kind("HardwareModel", hardware_model.HardwareModel, persistent=True)
ATTESTATION_POLICY = Kind("AttestationPolicy", attestation.AttestationPolicy, persistent=True)
NETWORK_INSTANCE = Kind("NetworkInstance", network_instance.NetworkInstance, persistent=True)
VOLUME = Kind("Volume", volume.Volume, persistent=True)
APP = Kind("App", app.App, persistent=True)
APP_INSTANCE = Kind("AppInstance", app_instance.AppInstance, persistent=True)

_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)

KINDS: tuple[ApiKind[Any], ...] = (
    ApiKind("Namespace", "namespaces", "namespace", ("ns",), NAMESPACE, namespace.COLUMNS,
            namespace.validate, group="", version="v1", namespaced=False,
            selectable=("status.phase",)),
    ApiKind("Secret", "secrets", "secret", (), SECRET, secret.COLUMNS, secret.validate,
            group="", version="v1", has_status=False, selectable=("type",), immutable=("type",),
            settle=secret.settle),
    ApiKind("Event", "events", "event", ("ev",), EVENT, event.COLUMNS, event.validate,
            group="", version="v1", has_status=False, selectable=_EVENT_FIELDS),
    ApiKind("OnboardingKey", "onboardingkeys", "onboardingkey", ("obk",), ONBOARDING_KEY,
            onboarding.KEY_COLUMNS, onboarding.validate_key),
    ApiKind("EnrollmentRequest", "enrollmentrequests", "enrollmentrequest", ("er",),
            ENROLLMENT_REQUEST, onboarding.REQUEST_COLUMNS, onboarding.validate_request,
            selectable=("spec.serial", "spec.softSerial"),
            immutable=("spec.serial", "spec.softSerial", "spec.deviceCertificate"),
            settle=onboarding.decide),
    ApiKind("EdgeNode", "edgenodes", "edgenode", ("en",), EDGE_NODE, edgenode.COLUMNS,
            edgenode.validate,
            selectable=("spec.serial", "spec.softSerial", "status.phase", "status.nodeID",
                        "status.trust")),
    ApiKind("Datastore", "datastores", "datastore", ("ds",), DATASTORE, datastore.COLUMNS,
            datastore.validate, selectable=("spec.type",)),
    ApiKind("Image", "images", "image", ("img",), IMAGE, image.COLUMNS, image.validate,
            selectable=("spec.format",)),
    ApiKind("OSImage", "osimages", "osimage", ("osi",), OS_IMAGE, os_image.COLUMNS,
            os_image.validate, selectable=("spec.version",),
            immutable=("spec.version", "spec.sha256")),
    ApiKind("HardwareModel", "hardwaremodels", "hardwaremodel", ("hm",), HARDWARE_MODEL,
            hardware_model.COLUMNS, hardware_model.validate),
    ApiKind("AttestationPolicy", "attestationpolicies", "attestationpolicy", ("ap",),
            ATTESTATION_POLICY, attestation.COLUMNS, attestation.validate,
            selectable=("spec.mode",)),
    ApiKind("NetworkInstance", "networkinstances", "networkinstance", ("ni",), NETWORK_INSTANCE,
            network_instance.COLUMNS, network_instance.validate, selectable=("spec.type",),
            immutable=("spec.type",)),
    ApiKind("Volume", "volumes", "volume", ("vol",), VOLUME, volume.COLUMNS, volume.validate,
            selectable=("spec.edgeNode", "status.state"), immutable=volume.IMMUTABLE,
            check_change=volume.check_change),
    ApiKind("App", "apps", "app", (), APP, app.COLUMNS, app.validate,
            selectable=("spec.type", "spec.image"), warn=app.warn),
    ApiKind("AppInstance", "appinstances", "appinstance", ("ai",), APP_INSTANCE,
            app_instance.COLUMNS, app_instance.validate,
            selectable=("spec.app", "spec.edgeNode", "status.state"),
            immutable=("spec.app", "spec.edgeNode"), settle=app_instance.settle),
)  # fmt: skip
BY_NAME: dict[str, ApiKind[Any]] = {kind.name: kind for kind in KINDS}


def _for_view(column: Column) -> Column:
    cell = column.cell
    return replace(column, cell=lambda e, now: cell(event_view.inward(e), now))


EVENTS_VIEW = replace(
    BY_NAME["Event"],
    group="events.k8s.io",
    view=View(event_view.EventV1, event_view.outward, event_view.inward),
    columns=tuple(_for_view(column) for column in event.COLUMNS),
    validate=lambda e: event.validate(event_view.inward(e)),
    selectable=event_view.SELECTABLE,
)
SERVED = (*KINDS, EVENTS_VIEW)
"""All rows of the API; some kinds come in two forms."""


def reference_to(kind: ApiKind[Any], value: ApiObject) -> event.ObjectReference:
    """What an Event about `value` names: `kubectl describe` and `kubectl events` find it by it."""
    return event.ObjectReference(
        kind=kind.name,
        api_version=kind.api_version,
        namespace=value.metadata.namespace,
        name=value.metadata.name,
        uid=value.metadata.uid,
    )
