"""Which objects name which others: for refusing a name of nothing, and deleting what is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.content.datastore import Datastore
from edgevirt.fleet.objects.content.image import Image
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.software.attestation import AttestationPolicy
from edgevirt.fleet.objects.software.os_image import OSImage


@dataclass(frozen=True)
class Reference:
    """`field` of an object names the object `name` of `kind` in the same namespace."""

    field: str
    kind: str
    name: str


def _of_instance(instance: AppInstance) -> Iterator[Reference]:
    yield Reference("spec.app", "App", instance.spec.app)
    yield Reference("spec.edgeNode", "EdgeNode", instance.spec.edge_node)


def _of_app(app: App) -> Iterator[Reference]:
    yield Reference("spec.image", "Image", app.spec.image)
    if app.spec.ramdisk:
        yield Reference("spec.ramdisk", "Image", app.spec.ramdisk)
    if app.spec.vnc is not None and app.spec.vnc.password_secret_ref is not None:
        name = app.spec.vnc.password_secret_ref.name
        yield Reference("spec.vnc.passwordSecretRef.name", "Secret", name)
    for index, volume in enumerate(app.spec.volumes):
        if volume.image:
            yield Reference(f"spec.volumes[{index}].image", "Image", volume.image)
        if volume.volume:
            yield Reference(f"spec.volumes[{index}].volume", "Volume", volume.volume)
    for index, interface in enumerate(app.spec.interfaces):
        field = f"spec.interfaces[{index}].networkInstance"
        yield Reference(field, "NetworkInstance", interface.network_instance)


def _of_volume(volume: Volume) -> Iterator[Reference]:
    yield Reference("spec.edgeNode", "EdgeNode", volume.spec.edge_node)
    if volume.spec.image:
        yield Reference("spec.image", "Image", volume.spec.image)


def _of_image(image: Image | OSImage) -> Iterator[Reference]:
    for index, ref in enumerate(image.spec.datastore_refs):
        yield Reference(f"spec.datastoreRefs[{index}].name", "Datastore", ref.name)


def _of_datastore(datastore: Datastore) -> Iterator[Reference]:
    if datastore.spec.credentials_secret_ref is not None:
        name = datastore.spec.credentials_secret_ref.name
        yield Reference("spec.credentialsSecretRef.name", "Secret", name)


def _of_node(node: EdgeNode) -> Iterator[Reference]:
    if node.spec.onboarding_key_ref is not None:
        name = node.spec.onboarding_key_ref.name
        yield Reference("spec.onboardingKeyRef.name", "OnboardingKey", name)
    if node.spec.os is not None:
        yield Reference("spec.os.image", "OSImage", node.spec.os.image)
    if node.spec.hardware_model:
        yield Reference("spec.hardwareModel", "HardwareModel", node.spec.hardware_model)


def _of_policy(policy: AttestationPolicy) -> Iterator[Reference]:
    learn = policy.spec.learn_from
    for index, name in enumerate(learn.names if learn is not None else ()):
        yield Reference(f"spec.learnFrom.names[{index}]", "OSImage", name)


_FINDERS: dict[str, Callable[[Any], Iterator[Reference]]] = {
    "AppInstance": _of_instance,
    "App": _of_app,
    "Volume": _of_volume,
    "Image": _of_image,
    "OSImage": _of_image,
    "AttestationPolicy": _of_policy,
    "Datastore": _of_datastore,
    "EdgeNode": _of_node,
}

USERS: dict[str, tuple[str, ...]] = {
    "App": ("AppInstance",),
    "EdgeNode": ("AppInstance", "Volume"),
    "Volume": ("App",),
    "Image": ("App", "Volume"),
    "NetworkInstance": ("App",),
    "OSImage": ("EdgeNode", "AttestationPolicy"),
    "HardwareModel": ("EdgeNode",),
    "Datastore": ("Image", "OSImage"),
    "Secret": ("Datastore", "App"),
    "OnboardingKey": ("EdgeNode",),
}
"""Kinds that may name each kind."""

DELETION_ORDER = (
    "AppInstance",
    "App",
    "Volume",
    "Image",
    "NetworkInstance",
    "EdgeNode",
    "AttestationPolicy",
    "OSImage",
    "HardwareModel",
    "Datastore",
    "Secret",
    "EnrollmentRequest",
    "OnboardingKey",
    "Event",
)
"""Users before what they use."""


def references_of(kind: str, value: Any) -> tuple[Reference, ...]:
    """Those that are given; an absent name is another check's business."""
    find = _FINDERS.get(kind)
    return tuple(ref for ref in find(value) if ref.name) if find else ()
