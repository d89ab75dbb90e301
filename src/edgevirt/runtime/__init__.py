"""Resources, stores, controllers and time. Knows no word of the edge."""

from edgevirt.runtime.clock import Clock, RealClock, VirtualClock
from edgevirt.runtime.controller import (
    Again,
    Inputs,
    Output,
    Planner,
    Reconciler,
    Refuse,
    Report,
    Retry,
    Undeclared,
)
from edgevirt.runtime.resource import Event, Gone, InStep, Kind, Put, Resource
from edgevirt.runtime.store import (
    ABSENT,
    Conflict,
    Denied,
    Expired,
    Holding,
    Store,
    StoreError,
    release,
)

__all__ = [
    "ABSENT",
    "Again",
    "Clock",
    "Conflict",
    "Denied",
    "Event",
    "Expired",
    "Gone",
    "Holding",
    "InStep",
    "Inputs",
    "Kind",
    "Output",
    "Planner",
    "Put",
    "RealClock",
    "Reconciler",
    "Refuse",
    "Report",
    "Resource",
    "Retry",
    "Store",
    "StoreError",
    "Undeclared",
    "VirtualClock",
    "release",
]
