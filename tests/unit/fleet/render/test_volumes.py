"""Volumes that no App owns: in their node's config as long as they exist, and told of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgevirt.fleet import render
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.fleet.objects.base.object import find_condition, timestamp
from edgevirt.fleet.objects.content.volume import (
    COLUMNS,
    Volume,
    VolumeSpec,
    VolumeStatus,
    check_change,
)
from edgevirt.fleet.render import Objects, volumes
from edgevirt.fleet.status import of_volume
from edgevirt.model.volume import VolumeOrigin
from edgevirt.wire.messages import info
from tests.unit.fleet.objects_world import APP, IMAGE, INSTANCE, NODE, changed, having, meta

NOW = 1_700_000_000.0
BOOKS = Volume(metadata=meta("books"), spec=VolumeSpec(edge_node="till-1", size="1Gi"))
MAPS = Volume(
    metadata=meta("maps"), spec=VolumeSpec(edge_node="till-1", image="nginx", read_only=True)
)
USER = changed(
    APP,
    volumes=(
        AppVolume(name="books", volume="books", mount_path="/books"),
        AppVolume(name="maps", volume="maps", mount_path="/maps"),
    ),
)
BOTH = {"books": BOOKS, "maps": MAPS}


def with_user(**parts: Any) -> Objects:
    return having(**{"apps": {"web": USER}, "volumes": BOTH, **parts})


def test_a_volume_is_there_whoever_uses_it() -> None:
    made = render.render(having(instances=(), volumes=BOTH)).config
    books, maps = made.volumes
    assert (books.id, books.origin, books.max_size) == (
        BOOKS.metadata.uid,
        VolumeOrigin.BLANK,
        1 << 30,
    )
    assert (maps.origin, maps.readonly) == (VolumeOrigin.DOWNLOAD, True)
    assert [tree.id for tree in made.content_trees] == [maps.content_tree] == [IMAGE.metadata.uid]
    assert len(made.datastores) == 1


def test_an_app_refers_to_it_and_brings_none_of_its_own() -> None:
    made = render.render(with_user()).config
    (app,) = made.apps
    root, *named = app.volumes
    assert {(ref.volume, ref.generation) for ref in app.volumes} == {
        (volume.id, volume.generation) for volume in made.volumes
    }
    assert [(ref.volume, ref.mount_dir) for ref in named] == [
        (BOOKS.metadata.uid, "/books"),
        (MAPS.metadata.uid, "/maps"),
    ]
    assert root.volume not in (BOOKS.metadata.uid, MAPS.metadata.uid)


def test_a_purge_of_the_app_leaves_it_as_it_is() -> None:
    before, after = (
        render.render(with_user(instances=(one,))).config.apps[0].volumes
        for one in (INSTANCE, changed(INSTANCE, purge_counter=1))
    )
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_what_may_be_written_is_made_anew_only_when_people_say_so() -> None:
    newer = {"nginx": changed(IMAGE, reference="nginx:2")}
    written = changed(MAPS, read_only=False)
    assert volumes.generation(written, newer) == volumes.generation(written, {"nginx": IMAGE}) == 0
    assert volumes.generation(changed(written, purge_counter=3), newer) == 3
    assert volumes.generation(MAPS, newer) != volumes.generation(MAPS, {"nginx": IMAGE})


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"maps": MAPS}, "Volume 'books' does not exist"),
        (
            {**BOTH, "books": changed(BOOKS, edge_node="till-2")},
            "Volume 'books' is on EdgeNode 'till-2'",
        ),
        (
            {**BOTH, "maps": changed(MAPS, image="gone")},
            "Volume 'maps' cannot be made: Image 'gone' does not exist",
        ),
    ],
)
def test_an_app_without_its_volume_waits_and_says_for_which(
    parts: dict[str, Volume], why: str
) -> None:
    made = render.render(with_user(volumes=parts))
    assert made.waiting == {"web-1": f"cannot put it on the node: {why}"}
    assert made.config.apps == ()


def test_a_volume_without_its_image_says_so_and_the_others_are_there() -> None:
    made = render.render(with_user(volumes={**BOTH, "maps": changed(MAPS, image="gone")}))
    assert made.volumes_waiting == {
        "maps": "cannot put it on the node: Image 'gone' does not exist"
    }
    assert [volume.name for volume in made.config.volumes] == ["books"]


def test_its_node_alone_is_concerned_and_those_of_apps_that_name_it() -> None:
    graph = Dependencies()
    for kind, value in (("EdgeNode", NODE), ("App", USER), ("AppInstance", INSTANCE)):
        graph.put(kind, value.key, value, 1)
    away = changed(BOOKS, edge_node="till-2")
    assert set(graph.put("Volume", away.key, away, 1)) == {"shop/till-1", "shop/till-2"}
    assert graph.volumes_of("shop/till-2") == [away.key]
    assert ("EdgeNode", "shop/till-2") not in graph.items_of("shop/till-1")
    assert ("Volume", away.key) in graph.items_of("shop/till-2")
    told = msgspec.structs.replace(away, status=VolumeStatus(state="CREATED_VOLUME"))
    assert graph.put("Volume", away.key, told, 2) == ()


def words(volume: Volume, old: Volume) -> list[str]:
    return [problem.message for problem in check_change(volume, old)]


def test_a_size_is_raised_and_never_lowered_with_what_is_in_it() -> None:
    assert words(changed(BOOKS, size="2Gi"), BOOKS) == []
    assert words(changed(MAPS, size="2Gi"), MAPS) == []
    why = "cannot make volume books smaller: it has 1Gi; raise purgeCounter too"
    (said,) = words(changed(BOOKS, size="1023Mi"), BOOKS)
    assert why in said
    assert words(MAPS, changed(MAPS, size="2Gi"))
    assert words(changed(BOOKS, size="512Mi", purge_counter=1), BOOKS) == []


def test_a_size_that_found_no_room_is_taken_back() -> None:
    stuck = changed(BOOKS, size="999Gi")
    stuck = msgspec.structs.replace(stuck, status=VolumeStatus(capacity=1 << 30))
    assert words(changed(BOOKS, size="1Gi"), stuck) == []
    assert words(changed(BOOKS, size="1023Mi"), stuck)


def test_while_it_grows_it_is_ready_and_both_sizes_are_shown() -> None:
    wanted = changed(BOOKS, size="2Gi")
    placed = of_volume.place(VolumeStatus(), wanted, with_user(), "", NOW)
    said = told(info.CREATED_VOLUME, error="growing from 1 GiB to 2 GiB")
    said.volumeErr.severity = info.SEVERITY_NOTICE
    growing = of_volume.fill(placed, said, NOW)
    assert (growing.what, growing.severity) == ("growing from 1 GiB to 2 GiB", "Notice")
    assert ready(growing)[0] == "True"
    assert size(msgspec.structs.replace(wanted, status=growing)) == "1Gi/2Gi"
    silent = of_volume.unreachable(growing, "not heard of", NOW)
    assert ready(of_volume.reachable(silent, NOW))[0] == "True"
    said = told(info.CREATED_VOLUME)
    said.resources.maxSizeBytes = 2 << 30
    grown = of_volume.fill(growing, said, NOW)
    assert (grown.what, grown.severity) == ("there", "")
    assert size(msgspec.structs.replace(wanted, status=grown)) == "2Gi"


def size(volume: Volume) -> str:
    return next(str(one.cell(volume, NOW)) for one in COLUMNS if one.name == "Size")


def told(state: info.ZSwState, generation: int = 0, error: str = "") -> info.ZInfoVolume:
    message = info.ZInfoVolume(
        uuid=BOOKS.metadata.uid, state=state, generation_count=generation, progressPercentage=40
    )
    message.resources.maxSizeBytes, message.resources.curSizeBytes = 1 << 30, 5 << 20
    message.volumeErr.description = error
    return message


def ready(status: VolumeStatus) -> tuple[str, str, str]:
    condition = find_condition(status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_the_node_s_words_become_its_status() -> None:
    placed = of_volume.place(VolumeStatus(), BOOKS, with_user(), "", NOW)
    assert (placed.volume_id, placed.used_by) == (BOOKS.metadata.uid, ("web-1",))
    assert ready(placed) == ("False", "NotOnNode", "not on the node yet")
    loading = of_volume.fill(placed, told(info.DOWNLOAD_STARTED), NOW + 1)
    assert (loading.state, loading.what, loading.progress) == ("DOWNLOADING", "downloading", 40)
    there = of_volume.fill(loading, told(info.CREATED_VOLUME), NOW + 2)
    assert (there.since, there.used, there.capacity) == (timestamp(NOW + 2), 5 << 20, 1 << 30)
    assert ready(there)[0] == "True"
    again = of_volume.fill(there, told(info.CREATED_VOLUME), NOW + 9)
    assert again.since == there.since


def test_what_is_wrong_is_told_and_it_is_not_ready() -> None:
    placed = of_volume.place(VolumeStatus(), BOOKS, with_user(), "", NOW)
    failed = of_volume.fill(placed, told(info.ERROR, error="the disk is full"), NOW)
    assert ready(failed) == ("False", "Failed", "the disk is full")


def test_word_of_another_generation_changes_nothing() -> None:
    placed = of_volume.place(VolumeStatus(), changed(BOOKS, purge_counter=1), with_user(), "", NOW)
    assert of_volume.fill(placed, told(info.CREATED_VOLUME, 0), NOW) == placed
    assert of_volume.fill(placed, told(info.CREATED_VOLUME, 1), NOW).state == "CREATED_VOLUME"


def test_one_that_is_made_anew_is_not_ready_by_what_was() -> None:
    placed = of_volume.place(VolumeStatus(), BOOKS, with_user(), "", NOW)
    there = of_volume.fill(placed, told(info.CREATED_VOLUME), NOW)
    anew = of_volume.place(there, changed(BOOKS, purge_counter=1), with_user(), "", NOW)
    assert (anew.state, ready(anew)[0]) == ("", "False")


def test_while_the_node_is_silent_nobody_knows() -> None:
    placed = of_volume.place(VolumeStatus(), BOOKS, with_user(), "", NOW)
    there = of_volume.fill(placed, told(info.CREATED_VOLUME), NOW)
    silent = of_volume.unreachable(there, "not heard of", NOW)
    assert ready(silent)[0] == "Unknown"
    assert ready(of_volume.reachable(silent, NOW))[0] == "True"
