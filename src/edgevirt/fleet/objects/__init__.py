"""The API's kinds: what people want of the fleet (spec), and what it is (status)."""

from edgevirt.fleet.objects.app import App
from edgevirt.fleet.objects.app_instance import AppInstance
from edgevirt.fleet.objects.base import (
    ApiObject,
    Condition,
    ObjectMeta,
    born,
    find_condition,
    object_key,
    set_condition,
    timestamp,
)
from edgevirt.fleet.objects.datastore import Datastore
from edgevirt.fleet.objects.edgenode import EdgeNode
from edgevirt.fleet.objects.event import Event, ObjectReference, make_event
from edgevirt.fleet.objects.image import Image
from edgevirt.fleet.objects.kinds import BY_NAME, GROUP, KINDS, VERSION, ApiKind, reference_to
from edgevirt.fleet.objects.namespace import Namespace
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.onboarding import EnrollmentRequest, OnboardingKey
from edgevirt.fleet.objects.sealing import Sealer, load_sealer
from edgevirt.fleet.objects.secret import Secret

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
