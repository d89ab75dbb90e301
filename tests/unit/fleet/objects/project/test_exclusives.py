"""What only one active app of a node can have: whoever comes second is told who has it."""

from __future__ import annotations

import msgspec
import pytest

from edgevirt.fleet.objects.app.app import App, AppSpec
from edgevirt.fleet.objects.app.device import AppDevice
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceSpec
from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.content.volume import Volume, VolumeSpec
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.fleet.objects.node.hardware_model import (
    HardwareModel,
    HardwareModelSpec,
    ModelAdapter,
)
from edgevirt.fleet.objects.project.conflicts import check_app, check_instance
from edgevirt.fleet.objects.project.project import Project


def meta(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, namespace="default")


def app(name: str, *volumes: str, devices: tuple[str, ...] = ()) -> App:
    spec = AppSpec(
        image="i",
        volumes=tuple(AppVolume(name=one, volume=one, mount_path=f"/{one}") for one in volumes),
        devices=tuple(AppDevice(name=one, type="USBDevice", adapter=one) for one in devices),
    )
    return App(metadata=meta(name), spec=spec)


def instance(of: str, node: str = "n1", *, activate: bool = True) -> AppInstance:
    spec = AppInstanceSpec(app=of, edge_node=node, activate=activate)
    return AppInstance(metadata=meta(f"{of}-{node}"), spec=spec)


MODEL = HardwareModel(
    metadata=meta("box"),
    spec=HardwareModelSpec(
        adapters=(
            ModelAdapter(name="socket", type="USBDevice", group="stick", parent_group="usb"),
            ModelAdapter(name="hub", type="USBController", group="usb"),
        )
    ),
)
VOLUMES = {
    "books": Volume(metadata=meta("books"), spec=VolumeSpec(edge_node="n1", size="1Gi")),
    "maps": Volume(
        metadata=meta("maps"), spec=VolumeSpec(edge_node="n1", image="maps", read_only=True)
    ),
}


def project(*objects: App | AppInstance) -> Project:
    node = EdgeNode(metadata=meta("n1"), spec=EdgeNodeSpec(hardware_model="box"))
    return Project(
        apps={o.metadata.name: o for o in objects if isinstance(o, App)},
        instances={o.metadata.name: o for o in objects if isinstance(o, AppInstance)},
        networks={},
        volumes=VOLUMES,
        nodes={"n1": node},
        models={"box": MODEL},
    )


def test_two_active_apps_do_not_get_one_adapter() -> None:
    one, two = instance("a"), instance("b")
    both = project(app("a", devices=("stick",)), app("b", devices=("stick",)), one, two)
    (problem,) = check_instance(two, both)
    assert problem.field == "spec.app"
    held = 'adapter group "stick" on EdgeNode "n1" is held by AppInstance "a-n1" (App "a")'
    assert held in problem.message


def test_nor_a_device_and_what_it_is_plugged_into() -> None:
    one, two = instance("a"), instance("b")
    both = project(app("a", devices=("stick",)), app("b", devices=("usb",)), one, two)
    for asked in (one, two):
        (problem,) = check_instance(asked, both)
        assert "goes with adapter group" in problem.message


def test_an_app_that_is_not_active_holds_nothing() -> None:
    one, two = instance("a", activate=False), instance("b")
    both = project(app("a", devices=("stick",)), app("b", devices=("stick",)), one, two)
    assert list(check_instance(two, both)) == []
    assert list(check_instance(one, both)) == []
    again = msgspec.structs.replace(one, spec=AppInstanceSpec(app="a", edge_node="n1"))
    active = project(*both.apps.values(), again, two)
    assert len(list(check_instance(again, active))) == 1


def test_an_app_that_asks_for_an_adapter_later_is_judged_where_it_runs() -> None:
    changed = app("b", devices=("stick",))
    (problem,) = check_app(
        changed, project(app("a", devices=("stick",)), changed, instance("a"), instance("b"))
    )
    assert problem.field == "spec.devices[0].adapter"
    assert list(check_app(changed, project(changed, instance("b"), instance("b", "n2")))) == []


@pytest.mark.parametrize(("volume", "problems"), [("books", 1), ("maps", 0)])
def test_a_volume_that_may_be_written_is_one_app_s(volume: str, problems: int) -> None:
    one, two = instance("a"), instance("b")
    found = list(check_instance(two, project(app("a", volume), app("b", volume), one, two)))
    assert len(found) == problems
    assert all('Volume "books" on EdgeNode "n1" is held' in one.message for one in found)


def test_an_app_runs_where_its_volumes_are() -> None:
    far = instance("a", "n2")
    (problem,) = check_instance(far, project(app("a", "maps"), far))
    assert 'Volume "maps" is on EdgeNode "n1"' in problem.message
    (problem,) = check_app(app("a", "maps"), project(app("a", "maps"), far))
    assert problem.field == "spec.volumes[0].volume"
    assert 'AppInstance "a-n2" is on EdgeNode "n2"' in problem.message
