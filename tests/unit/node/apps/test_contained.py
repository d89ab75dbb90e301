"""A container in a virtual machine: its image must be there as a disk before it starts."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edgevirt.model.app import Resources, VolumeUse
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import DOMAIN, HOST_CAPACITY, VOLUME_USE
from tests.unit.node.apps.test_machine_images import machine, node_with
from tests.worlds.apps import APP, VOLUME, Node, app, why

KEY = f"{VOLUME}#0"
LAYERS = {"format": 1, "layers": ("/layers/1",)}
BARE = Resources(memory_kib=65_536, vcpus=2, mode=VirtualizationMode.NOHYPER)


def contained(**root: Any) -> Node:
    node = node_with(machine(), **LAYERS)
    node.volume_is(SwState.CREATED_VOLUME, **{"packed": "", **root})
    return node


def test_its_image_is_asked_for_as_a_disk_and_waited_for() -> None:
    node = contained()
    status = node.plan()
    assert (status.state, status.what) == (
        SwState.CREATING_VOLUME,
        "making a disk of the image of volume root",
    )
    assert node.last.get(DOMAIN, APP) is None
    assert node.last.get(VOLUME_USE, KEY) == VolumeUse(apps=(AppId(APP),), packed=True)

    node.volume_is(SwState.CREATED_VOLUME, packed="/packed/1")
    node.plan()
    assert node.domain().mode is VirtualizationMode.PV
    assert node.domain().volumes[0].packed == "/packed/1"


def test_why_the_disk_is_not_made_is_told() -> None:
    node = contained(trouble=Trouble(why="cannot pack: the disk is full", since=1.0))
    assert why(node.plan()) == "cannot pack: the disk is full"


def test_a_bare_container_needs_no_such_disk() -> None:
    node = Node()
    node.run(app(interfaces=()))
    assert node.last.get(VOLUME_USE, KEY) == VolumeUse(apps=(AppId(APP),))


def test_one_that_is_to_move_into_a_machine_runs_on_until_the_disk_is_there() -> None:
    bare = replace(machine(), resources=BARE)
    node = node_with(bare, **LAYERS)
    node.volume_is(SwState.CREATED_VOLUME, packed="")
    node.plan()
    node.domain_is(SwState.RUNNING)
    before = node.domain()

    node.want(replace(machine(), restart_counter=1))
    status = node.plan()
    assert status.what == "running; restarting: making a disk of the image of volume root"
    assert node.domain() == before
    assert node.last.get(VOLUME_USE, KEY) == VolumeUse(apps=(AppId(APP),), packed=True)

    node.volume_is(SwState.CREATED_VOLUME, packed="/packed/1")
    node.plan()
    assert node.domain().mode is VirtualizationMode.PV


NO_GUEST = "this node has no kernel for containers in a virtual machine"


def without_guest(node: Node, why_not: str = NO_GUEST) -> Node:
    """On a node where nobody made that kernel."""
    had = node.inputs[HOST_CAPACITY]["node"]
    node.put(HOST_CAPACITY, "node", replace(had, no_guest=why_not))
    return node


def test_a_node_without_the_kernel_of_its_machine_says_so_before_the_image_is_there() -> None:
    node = without_guest(node_with(machine(), **LAYERS))
    node.volume_is(SwState.DOWNLOADING, progress=7, format=ContentFormat.CONTAINER)
    status = node.plan()
    assert status.state == SwState.DOWNLOADING, "the image still comes"
    assert why(status) == f"cannot run if its image is a container: {NO_GUEST}"
    node.volume_is(SwState.CREATED_VOLUME, packed="")
    assert why(node.plan()) == f"cannot run: {NO_GUEST}"
    assert node.last.get(DOMAIN, APP) is None
    without_guest(node, why_not="")
    assert node.plan().what == "making a disk of the image of volume root"


def test_what_needs_no_such_kernel_is_not_kept_from_running() -> None:
    """A machine, whose image has the same format until it is there; a bare container."""
    node = without_guest(node_with(machine()))
    node.volume_is(SwState.CREATED_VOLUME, format=ContentFormat.QCOW2, path="/disk")
    assert why(node.plan()) == ""
    assert node.domain()
    node = without_guest(node_with(replace(machine(), resources=BARE), **LAYERS))
    node.volume_is(SwState.CREATED_VOLUME)
    assert why(node.plan()) == ""
    assert node.domain()
