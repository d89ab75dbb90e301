"""The API's kinds: what people want of the fleet (spec), and what it is (status)."""

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import (
    ApiObject,
    Condition,
    ObjectMeta,
    born,
    find_condition,
    object_key,
    set_condition,
    timestamp,
)
from edgevirt.fleet.objects.content.datastore import Datastore
from edgevirt.fleet.objects.content.image import Image
from edgevirt.fleet.objects.core.event import Event, ObjectReference, make_event
from edgevirt.fleet.objects.core.namespace import Namespace
from edgevirt.fleet.objects.core.sealing import Sealer, load_sealer
from edgevirt.fleet.objects.core.secret import Secret
from edgevirt.fleet.objects.kinds import BY_NAME, GROUP, KINDS, VERSION, ApiKind, reference_to
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.onboarding import EnrollmentRequest, OnboardingKey

__all__ = [
    "BY_NAME",
    "GROUP",
    "KINDS",
    "VERSION",
    "ApiKind",
    "ApiObject",
    "App",
    "AppInstance",
    "Condition",
    "Datastore",
    "EdgeNode",
    "EnrollmentRequest",
    "Event",
    "Image",
    "Namespace",
    "NetworkInstance",
    "ObjectMeta",
    "ObjectReference",
    "OnboardingKey",
    "Sealer",
    "Secret",
    "born",
    "find_condition",
    "load_sealer",
    "make_event",
    "object_key",
    "reference_to",
    "set_condition",
    "timestamp",
]
