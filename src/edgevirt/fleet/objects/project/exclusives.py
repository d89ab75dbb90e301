"""What one app on a node has for itself: groups of adapters, and Volumes that it may write. Pure.

Two apps that are active and both want it contradict each other for good, and the fleet says so
when it is asked. Two of which one is not active are a handover: who has it until when, the node
knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid
from edgevirt.fleet.objects.node.hardware_model import HardwareModel
from edgevirt.fleet.objects.project.project import Project

_Placed = tuple[AppInstance, App]


@dataclass(frozen=True)
class _Claim:
    """`bars`: what nobody else may have meanwhile. `cure`: what helps, in words."""

    thing: str
    bars: frozenset[str]
    field: str
    value: str
    cure: str

    def excludes(self, other: _Claim) -> bool:
        return self.thing in other.bars or other.thing in self.bars


def check_instance(instance: AppInstance, project: Project) -> Iterator[Problem]:
    """Of `instance`, which `project` has."""
    app = project.apps.get(instance.spec.app)
    if app is None:
        return
    node = instance.spec.edge_node
    for name in app.named_volumes:
        if why := _elsewhere(name, node, project):
            yield invalid("spec.app", instance.spec.app, why)
    for problem in _taken((instance, app), project):
        yield duplicate("spec.app", instance.spec.app, problem[1])


def check_app(app: App, project: Project) -> Iterator[Problem]:
    """Of `app`, which `project` has, wherever it runs."""
    told: set[tuple[str, str]] = set()
    for instance in project.instances.values():
        if instance.spec.app != app.metadata.name:
            continue
        for index, volume in enumerate(app.spec.volumes):
            why = _elsewhere(volume.volume, instance.spec.edge_node, project)
            if why:
                why = f'{why}, and AppInstance "{instance.metadata.name}" is on {_of(instance)}'
                yield invalid(f"spec.volumes[{index}].volume", volume.volume, why)
        for claim, why in _taken((instance, app), project):
            if (claim.field, why) not in told:
                told.add((claim.field, why))
                yield duplicate(claim.field, claim.value, why)


def _elsewhere(name: str, node: str, project: Project) -> str:
    volume = project.volumes.get(name)
    if volume is None or volume.spec.edge_node == node:
        return ""
    return f'Volume "{name}" is on EdgeNode "{volume.spec.edge_node}"'


def _of(instance: AppInstance) -> str:
    return f'EdgeNode "{instance.spec.edge_node}"'


def _taken(placed: _Placed, project: Project) -> Iterator[tuple[_Claim, str]]:
    """What others on its node have that it wants, and who in words."""
    instance, app = placed
    if not instance.spec.activate:
        return
    mine = list(_claims(app, instance, project))
    for other, its_app in project.on_node(instance.spec.edge_node) if mine else ():
        if other.metadata.name == instance.metadata.name or not other.spec.activate:
            continue
        for theirs in _claims(its_app, other, project):
            for claim in mine:
                if claim.excludes(theirs):
                    yield claim, _words(claim, theirs, other)


def _words(claim: _Claim, theirs: _Claim, other: AppInstance) -> str:
    holder = f'AppInstance "{other.metadata.name}" (App "{other.spec.app}")'
    thing = claim.thing
    if theirs.thing != thing:
        thing = f"{thing} goes with {theirs.thing}, which"
    return f"{thing} on {_of(other)} is held by {holder}: {claim.cure}"


def _claims(app: App, instance: AppInstance, project: Project) -> Iterator[_Claim]:
    for index, wanted in enumerate(app.spec.volumes):
        volume = project.volumes.get(wanted.volume)
        if volume is not None and not volume.spec.read_only:
            thing = f'Volume "{wanted.volume}"'
            field = f"spec.volumes[{index}].volume"
            cure = "deactivate that one first, or share a readOnly one"
            yield _Claim(thing, frozenset({thing}), field, wanted.volume, cure)
    model = project.model_of(instance.spec.edge_node)
    for index, device in enumerate(app.spec.devices):
        if device.adapter:
            thing, *parents = map(_group, (device.adapter, *_parents(device.adapter, model)))
            field = f"spec.devices[{index}].adapter"
            bars = frozenset({thing, *parents})
            yield _Claim(thing, bars, field, device.adapter, "deactivate that one first")


def _group(name: str) -> str:
    return f'adapter group "{name}"'


def _parents(group: str, model: HardwareModel | None) -> Iterator[str]:
    for adapter in model.spec.adapters if model is not None else ():
        if adapter.group == group and adapter.parent_group:
            yield adapter.parent_group
