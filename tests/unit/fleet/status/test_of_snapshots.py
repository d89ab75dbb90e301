"""What a fleet asks of a node's snapshots, and what it says of an app that went back to one."""

from __future__ import annotations

from typing import Any

import msgspec

from edgevirt.fleet import render
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.objects.app.app import App, validate
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceStatus
from edgevirt.fleet.objects.app.snapshots import AppSnapshots, Rollback, SnapshotOnNode
from edgevirt.fleet.status import of_app
from edgevirt.model.app import AppInstance as Wanted
from edgevirt.wire.messages import info
from tests.unit.fleet.objects_world import APP, INSTANCE, NODE, changed, having

ONE = "d0000000-0000-4000-8000-000000000001"
KEEPING = changed(APP, snapshots=AppSnapshots(max=2))
TAKEN = SnapshotOnNode(id=ONE, version="1", taken_at="2026-01-01T00:00:00Z")


def wanted(app: App = KEEPING, *told: SnapshotOnNode, **spec: Any) -> Wanted:
    status = AppInstanceStatus(snapshots=told)
    instance = msgspec.structs.replace(changed(INSTANCE, **spec), status=status)
    return render.render(having(apps={"web": app}, instances=(instance,))).config.apps[0]


def names(app: Wanted) -> list[str]:
    return [name.id for name in app.snapshot.names]


def test_an_app_that_keeps_none_asks_for_none() -> None:
    assert wanted(APP).snapshot.most == 0
    assert names(wanted(APP, TAKEN)) == []


def test_what_the_node_has_is_named_and_one_for_the_next_update() -> None:
    first = wanted(KEEPING, TAKEN)
    assert first.snapshot.most == 2
    assert names(first)[0] == ONE
    assert names(wanted(KEEPING, TAKEN)) == names(first), "the same until the next update"
    updated = wanted(KEEPING, TAKEN, purge_counter=1)
    assert names(updated)[1] != names(first)[1]
    leaving = SnapshotOnNode(id="gone", message="being deleted")
    assert "gone" not in names(wanted(KEEPING, leaving))


def test_a_snapshot_that_is_told_changes_the_node_s_config_and_no_other_status_does() -> None:
    graph = Dependencies()
    graph.put("EdgeNode", NODE.key, NODE, 1)
    graph.put("AppInstance", INSTANCE.key, INSTANCE, 1)
    moved = msgspec.structs.replace(INSTANCE, status=AppInstanceStatus(state="RUNNING"))
    assert graph.put("AppInstance", INSTANCE.key, moved, 2) == ()
    kept = msgspec.structs.replace(INSTANCE, status=AppInstanceStatus(snapshots=(TAKEN,)))
    assert graph.put("AppInstance", INSTANCE.key, kept, 3) == (NODE.key,)


def test_an_order_to_go_back_travels_with_its_counter() -> None:
    wish = wanted(KEEPING, TAKEN, rollback=Rollback(snapshot=ONE, counter=3)).snapshot
    assert (wish.active, wish.rollback_counter) == (ONE, 3)


def test_too_many_snapshots_are_refused() -> None:
    (problem,) = validate(changed(APP, snapshots=AppSnapshots(max=99)))
    assert problem.field == "spec.snapshots.max"


def heard(version: str, message: str = "", **spec: Any) -> AppInstanceStatus:
    """Of an App of generation 2."""
    told = info.ZInfoApp(AppID="app", state=info.RUNNING, appVersion=version)
    one = told.snapshots.add(id=ONE, config_version="1")
    one.create_time.seconds = 1_767_225_600
    one.snap_err.description = message
    instance: AppInstance = changed(INSTANCE, **spec)
    return of_app.compare(of_app.fill(AppInstanceStatus(), told, 1.0), instance, KEEPING)


def test_an_app_that_went_back_says_so_until_its_app_changes() -> None:
    back = Rollback(snapshot=ONE, counter=1)
    assert heard("2").what == "running"
    assert heard("2").snapshots == (TAKEN,)
    rolling = heard("2", "its app is rolled back to it", rollback=back)
    assert rolling.what.startswith(f"running; rolling back to snapshot {ONE}")
    assert heard("1", rollback=back).what == "running; rolled back to version 1; the App says 2"
    assert heard("2", rollback=back).what == "running"
    assert heard("1").what == "running", "an update that is not there yet is no rollback"
