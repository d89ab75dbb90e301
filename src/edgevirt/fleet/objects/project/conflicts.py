"""What two apps on one node cannot share: a port of the node, an address, overlapping subnets."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.project import exclusives
from edgevirt.fleet.objects.project.project import Project


@dataclass(frozen=True)
class _Claim:
    """What an app's field takes on a node; `thing` in words."""

    thing: str
    field: str
    value: object


def _claims(app: App) -> Iterator[_Claim]:
    if app.spec.vnc is not None:
        display = app.spec.vnc.display
        yield _Claim(f"VNC display {display}", "spec.vnc.display", display)
    for i, interface in enumerate(app.spec.interfaces):
        path = f"spec.interfaces[{i}]"
        if interface.ip:
            thing = f"address {interface.ip} in NetworkInstance {interface.network_instance!r}"
            yield _Claim(thing, f"{path}.ip", interface.ip)
        for j, port in enumerate(interface.ports):
            thing = f"port {port.node_port}/{port.protocol}"
            yield _Claim(thing, f"{path}.ports[{j}].nodePort", port.node_port)


def check_instance(instance: AppInstance, project: Project) -> Iterator[Problem]:
    """Whether there is room for `instance` (which `project` has) beside the others on its node."""
    app = project.apps.get(instance.spec.app)
    if app is None:
        return
    for other, its_app in project.on_node(instance.spec.edge_node):
        if other.metadata.name == instance.metadata.name:
            continue
        for mine, _ in _common(app, its_app):
            yield duplicate("spec.app", instance.spec.app, _taken(mine, instance, other))
    yield from _check_subnets("spec.app", instance.spec.app, instance.spec.edge_node, project)
    yield from exclusives.check_instance(instance, project)


def check_app(app: App, project: Project) -> Iterator[Problem]:
    """Whether `app` (which `project` has) fits on all nodes that run it, and in its networks."""
    yield from _check_addresses(app, project)
    nodes: set[str] = set()
    for instance in project.instances.values():
        if instance.spec.app != app.metadata.name:
            continue
        nodes.add(instance.spec.edge_node)
        for other, its_app in project.on_node(instance.spec.edge_node):
            if other.spec.app == app.metadata.name:
                continue
            for mine, _ in _common(app, its_app):
                yield duplicate(mine.field, mine.value, _taken(mine, instance, other))
    for node in sorted(nodes):
        yield from _check_subnets("spec.interfaces", app.metadata.name, node, project)
    yield from exclusives.check_app(app, project)


def check_network(network: NetworkInstance, project: Project) -> Iterator[Problem]:
    """Whether `network` (which `project` has) still suits the apps that use it."""
    name = network.metadata.name
    users = [
        app
        for app in project.apps.values()
        if any(i.network_instance == name for i in app.spec.interfaces)
    ]
    for app in users:
        for problem in _check_addresses(app, project, only=name):
            why = f'App "{app.metadata.name}" has {problem.field}: {problem.message}'
            yield invalid("spec.subnet", network.spec.subnet, why)
    running = {app.metadata.name for app in users}
    nodes = {i.spec.edge_node for i in project.instances.values() if i.spec.app in running}
    for node in sorted(nodes):
        yield from _check_subnets("spec.subnet", network.spec.subnet, node, project)


def _common(app: App, other: App) -> Iterator[tuple[_Claim, _Claim]]:
    theirs = {claim.thing: claim for claim in _claims(other)}
    for mine in _claims(app):
        if mine.thing in theirs:
            yield mine, theirs[mine.thing]


def _taken(claim: _Claim, instance: AppInstance, other: AppInstance) -> str:
    return (
        f'{claim.thing} on EdgeNode "{instance.spec.edge_node}" is taken by AppInstance '
        f'"{other.metadata.name}" (App "{other.spec.app}")'
    )


def _check_addresses(app: App, project: Project, only: str = "") -> Iterator[Problem]:
    for index, interface in enumerate(app.spec.interfaces):
        network = project.networks.get(interface.network_instance)
        if not interface.ip or network is None or (only and interface.network_instance != only):
            continue
        field = f"spec.interfaces[{index}].ip"
        plan = network.addressing
        if plan is None:
            why = f'NetworkInstance "{interface.network_instance}" is a Switch: it gives no address'
            yield invalid(field, interface.ip, why)
            continue
        address = ipaddress.ip_address(interface.ip)
        ends = (plan.subnet.network_address, plan.subnet.broadcast_address)
        if address not in plan.subnet or address in ends:
            why = f"must be a host's address in {plan.subnet} of {interface.network_instance!r}"
            yield invalid(field, interface.ip, why)
        elif address == plan.gateway:
            yield invalid(field, interface.ip, f"is the gateway of {interface.network_instance!r}")


def _check_subnets(field: str, value: str, node: str, project: Project) -> Iterator[Problem]:
    names = {
        interface.network_instance
        for _, app in project.on_node(node)
        for interface in app.spec.interfaces
    }
    plans = [
        (name, project.networks[name].addressing)
        for name in sorted(names)
        if name in project.networks
    ]
    for (one, plan), (other, second) in itertools.combinations(plans, 2):
        if plan and second and plan.subnet.overlaps(second.subnet):
            why = (
                f'on EdgeNode "{node}" the subnets of NetworkInstances "{one}" ({plan.subnet}) '
                f'and "{other}" ({second.subnet}) would overlap'
            )
            yield invalid(field, value, why)
