"""A volume that is to grow: a running domain is told, a stopped one yields it, none starts."""

from __future__ import annotations

from typing import Any

from edgevirt.model.app import VolumeRef, VolumeUse
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.ids import VolumeId
from edgevirt.model.kinds import DOMAIN, DOMAIN_STATUS, VOLUME_USE
from edgevirt.model.volume import Growth, volume_key
from tests.worlds.apps import APP, OTHER, VOLUME, Node, app

KEY = volume_key(VOLUME, 0)
GROWTH = Growth(size=2 << 30, begun=5.0)


def use(node: Node, key: str = KEY) -> VolumeUse | None:
    found: VolumeUse | None = node.last.get(VOLUME_USE, key)
    return found


def grows(node: Node, growth: Growth | None = GROWTH, **fields: Any) -> None:
    node.volume_is(SwState.CREATED_VOLUME, growing=growth, **fields)


def test_a_running_domain_is_told_and_goes_on() -> None:
    node = Node()
    node.run()
    before = node.domain()
    grows(node)
    status = node.plan()
    after = node.domain()
    assert (after.volumes[0].size, after.generation) == (2 << 30, before.generation)
    assert (status.state, status.what) == (SwState.RUNNING, "running")
    assert use(node) == VolumeUse(apps=(APP,))
    grows(node, None)
    node.plan()
    assert node.domain() == after, "what it was told stays"


def test_an_app_that_was_about_to_start_waits_until_it_has_grown() -> None:
    node = Node()
    node.want(app(interfaces=()))
    grows(node)
    status = node.plan()
    assert (status.state, status.what) == (SwState.CREATING_VOLUME, "growing volume root")
    assert node.last.get(DOMAIN, APP) is None
    assert use(node) == VolumeUse(apps=(APP,), yields=GROWTH)
    grows(node, None)
    node.plan()
    assert node.domain().volumes[0].size == 0, "it finds it as it is"
    assert use(node) == VolumeUse(apps=(APP,))


def test_a_volume_that_no_app_names_is_yielded() -> None:
    node = Node()
    node.want()
    grows(node)
    node.plan_any()
    assert use(node) == VolumeUse(apps=(), yields=GROWTH)
    grows(node, None)
    node.plan_any()
    assert use(node) is None


def test_it_is_yielded_only_when_the_domain_has_ended() -> None:
    node = Node()
    node.run()
    grows(node)
    node.want(app(activate=False))
    node.plan()
    assert not node.domain().activate
    assert use(node) == VolumeUse(apps=(APP,))
    node.domain_is(SwState.HALTED)
    node.plan()
    assert use(node) == VolumeUse(apps=(APP,), yields=GROWTH)
    node.want(app())
    status = node.plan()
    assert (status.state, status.what) == (SwState.CREATING_VOLUME, "growing volume root")


def test_nor_is_it_while_an_app_that_is_removed_still_runs() -> None:
    node = Node()
    node.run()
    grows(node)
    node.want()
    node.plan_any()
    assert use(node) == VolumeUse(apps=(APP,))
    node.drop(DOMAIN_STATUS, APP)
    node.plan_any()
    found = use(node)
    assert found is None or found.yields == GROWTH


def test_a_domain_that_crashed_may_be_started_at_any_moment() -> None:
    node = Node()
    node.run()
    grows(node)
    node.domain_is(SwState.HALTED)
    node.plan()
    assert use(node) == VolumeUse(apps=(APP,))
    assert node.domain().volumes[0].size == 2 << 30


def test_after_a_restart_of_the_node_nothing_has_it() -> None:
    node = Node()
    node.run()
    node.boot = "boot 2"
    node.forget(DOMAIN_STATUS)
    grows(node)
    status = node.plan()
    assert status.what == "growing volume root"
    assert use(node) == VolumeUse(apps=(APP,), yields=GROWTH)


def test_what_another_app_s_domain_has_is_not_waited_for() -> None:
    data = VolumeId("b0000000-0000-4000-8000-000000000003")
    shared: dict[str, Any] = {"volume": data, "readonly": True, "format": ContentFormat.RAW}
    refs = (VolumeRef(volume=VOLUME), VolumeRef(volume=data))
    second = VolumeId("b0000000-0000-4000-8000-000000000004")
    others = (VolumeRef(volume=second), VolumeRef(volume=data))
    first = app(interfaces=(), volumes=refs)
    node = Node()
    node.volume_is(SwState.CREATED_VOLUME, **shared)
    node.run(first)
    node.volume_is(SwState.CREATED_VOLUME, volume=second)
    grows(node, **shared)
    node.want(first, app(id=OTHER, interfaces=(), name="other", volumes=others))
    node.plan()
    assert node.domain(OTHER).activate
    assert use(node, volume_key(data, 0)) == VolumeUse(apps=(APP, OTHER))
