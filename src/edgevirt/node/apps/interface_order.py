"""In what order a virtual machine finds its network interfaces, devices among them. Pure.

By EVE's rules: what an app has of a place in the order counts only if it says that it does, and
then no two may have the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from edgevirt.model.app import AppInstance
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.domain import DomainVif
from edgevirt.model.hardware import NETWORKS, DomainDevice
from edgevirt.node.apps.adapters import Adapters
from edgevirt.node.apps.gates import Wait


def check_order(app: AppInstance, adapters: Adapters, now: float) -> Wait | None:
    """Its adapters are known."""
    if not app.resources.ordered:
        return None
    seen: dict[int, str] = {}
    for what, order in _ordered(app, adapters):
        if order in seen:
            why = f"cannot start: {what} and {seen[order]} both have place {order} in its order"
            return Wait(SwState.INSTALLED, "cannot run here", Trouble(why=why, since=now))
        seen[order] = what
    return None


def placed_vifs(
    app: AppInstance, adapters: Adapters, vifs: tuple[DomainVif, ...]
) -> tuple[DomainVif, ...]:
    """`vifs`: of the app's interfaces, one each."""
    if not app.resources.ordered or not vifs:
        return vifs
    places = _places(app, adapters)
    orders = (interface.order for interface in app.interfaces)
    placed = (replace(vif, place=places[order]) for vif, order in zip(vifs, orders, strict=True))
    return tuple(sorted(placed, key=lambda vif: vif.place))


def placed_devices(app: AppInstance, adapters: Adapters) -> tuple[DomainDevice, ...]:
    devices = adapters.devices(app)
    if not app.resources.ordered:
        return devices
    places = _places(app, adapters)
    orders = {
        member.label: wanted.order
        for wanted in app.adapters
        if (group := adapters.find(wanted.name)) is not None
        for member in group.members
    }
    return tuple(
        replace(device, place=places[orders[device.label]]) if device.type in NETWORKS else device
        for device in devices
    )


def _places(app: AppInstance, adapters: Adapters) -> Mapping[int, int]:
    """By order, from 1."""
    orders = sorted({order for _, order in _ordered(app, adapters)})
    return {order: place for place, order in enumerate(orders, 1)}


def _ordered(app: AppInstance, adapters: Adapters) -> Iterator[tuple[str, int]]:
    for interface in app.interfaces:
        yield f"interface {interface.name}", interface.order
    for wanted in app.adapters:
        group = adapters.find(wanted.name)
        if group is not None and any(member.type in NETWORKS for member in group.members):
            yield f"adapter {wanted.name}", wanted.order
