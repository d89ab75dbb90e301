"""Which blobs are requested and claimed, when, and what a content tree's status says of it."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import (
    BlobChild,
    BlobClaim,
    BlobDownload,
    BlobRequest,
    BlobRole,
    ContentFormat,
    ContentTreeStatus,
    TagAnswer,
)
from edgevirt.model.ids import DatastoreId, Digest, VolumeId
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BLOB_CLAIM,
    BLOB_DOWNLOAD,
    BLOB_REQUEST,
    BLOB_STATUS,
    CONTENT_TREE,
    PROPERTY,
    TAG_ANSWER,
    TAG_REQUEST,
    VOLUME_STATUS,
)
from edgevirt.model.node import Property
from edgevirt.model.volume import VolumeStatus
from edgevirt.node.volumes.content_plan import GRACE
from edgevirt.wire import oci
from tests.worlds.content_plan import (
    BASE,
    CONFIG,
    IMAGE,
    INDEX,
    MANIFEST,
    ONLINE,
    TOP,
    TREE,
    World,
    by_digest,
    child,
    tree,
)

# -- from a tag to a loaded tree --


def test_a_tag_is_resolved_before_anything_is_fetched() -> None:
    world = World(tree())
    plan = world.plan()
    request = plan.get(TAG_REQUEST, TREE)
    assert request is not None
    assert request.url == "apps/hello:1"
    assert not plan.all(BLOB_REQUEST)
    assert world.tree().state == SwState.RESOLVING_TAG


def test_a_registry_that_refuses_to_resolve_is_told_in_the_tree_s_status() -> None:
    world = World(tree())
    trouble = Trouble(why="cannot fetch: registry answered 401", since=1.0)
    world.values[TAG_ANSWER][TREE] = TagAnswer(url="apps/hello:1", trouble=trouble)
    world.plan()
    assert world.tree().trouble == trouble


def test_a_tag_is_asked_for_until_its_digest_is_remembered() -> None:
    """An answer goes with its question: whoever asks no more forgets."""
    world = World(tree())
    world.plan()
    world.values[TAG_ANSWER][TREE] = TagAnswer(url="apps/hello:1", digest=INDEX)
    assert world.plan().all(TAG_REQUEST)
    world.downloaded(INDEX)
    world.plan()
    assert world.claims()[INDEX].tags == ((TREE, "apps/hello:1"),)
    assert not world.plan().all(TAG_REQUEST)


def test_an_answer_for_another_url_is_not_taken() -> None:
    world = World(tree(url="apps/hello:2"))
    world.values[TAG_ANSWER][TREE] = TagAnswer(url="apps/hello:1", digest=INDEX)
    world.plan()
    assert world.tree().state == SwState.RESOLVING_TAG


@pytest.mark.parametrize("given", [{"sha256": oci.hex_of(INDEX)}, {"url": f"apps/hello@{INDEX}"}])
def test_a_digest_that_is_given_is_not_asked_for(given: dict[str, str]) -> None:
    world = World(tree(**given))
    plan = world.plan()
    assert not plan.all(TAG_REQUEST)
    assert set(world.requests()) == {INDEX}


def test_an_index_a_manifest_a_config_and_layers_are_fetched_one_after_the_other() -> None:
    world = World(tree())
    world.values[TAG_ANSWER][TREE] = TagAnswer(url="apps/hello:1", digest=INDEX)
    world.plan()
    assert world.requests()[INDEX] == BlobRequest(
        digest=INDEX,
        datastores=(DatastoreId("d1"), DatastoreId("d2")),
        url="apps/hello:1",
        is_manifest=True,
        max_size=oci.MAX_DOCUMENT,
    )
    assert not world.claims()

    world.downloaded(INDEX)
    world.plan()
    assert world.claims()[INDEX].role == BlobRole.MANIFEST
    assert INDEX in world.requests()

    world.status(INDEX, children=(child(MANIFEST, BlobRole.MANIFEST),))
    world.plan()
    assert set(world.requests()) == {MANIFEST}
    assert world.requests()[MANIFEST].is_manifest

    world.downloaded(MANIFEST)
    layers = (child(BASE, BlobRole.LAYER, 300), child(TOP, BlobRole.LAYER, 500))
    world.status(MANIFEST, children=(child(CONFIG, BlobRole.CONFIG), *layers))
    world.plan()
    assert set(world.requests()) == {CONFIG, BASE, TOP}
    assert world.requests()[TOP].size == 500
    assert not world.requests()[TOP].is_manifest


def test_a_layer_is_claimed_only_when_its_config_tells_what_it_must_hold() -> None:
    world = World(by_digest())
    world.load_manifest()
    for digest in (CONFIG, BASE, TOP):
        del world.values[BLOB_STATUS][digest]
    world.downloaded(BASE)
    world.downloaded(TOP)
    world.plan()
    assert BASE not in world.claims()
    assert {CONFIG, BASE, TOP} == set(world.requests())
    world.status(CONFIG, image=IMAGE, diff_ids=(Digest("sha256:d1"), Digest("sha256:d2")))
    world.plan()
    assert world.claims()[BASE].diff_id == "sha256:d1"
    assert world.claims()[TOP].diff_id == "sha256:d2"


def test_a_tree_is_loaded_when_every_blob_is_and_then_nothing_is_requested() -> None:
    world = World(tree(sha256=oci.hex_of(INDEX), name="hello"))
    world.load_image()
    plan = world.plan()
    assert not plan.all(BLOB_REQUEST)
    assert world.tree() == ContentTreeStatus(
        id=TREE,
        content=world.values[CONTENT_TREE][TREE].content,
        state=SwState.LOADED,
        since=1000.0,
        name="hello",
        digest=INDEX,
        progress=100,
        size=1100,
        format=ContentFormat.CONTAINER,
        blobs=(INDEX, MANIFEST, CONFIG, BASE, TOP),
        layers=(f"/p/{'a' * 64}", f"/p/{'b' * 64}"),
        image=IMAGE,
    )


def test_a_layer_that_an_image_has_twice_is_fetched_once_and_mounted_twice() -> None:
    world = World(by_digest())
    layer = child(BASE, BlobRole.LAYER)
    world.status(MANIFEST, children=(child(CONFIG, BlobRole.CONFIG), layer, layer))
    world.status(CONFIG, image=IMAGE, diff_ids=(Digest("sha256:d1"),) * 2)
    world.status(BASE)
    world.plan()
    assert world.tree().layers == (f"/p/{'a' * 64}",) * 2


def test_a_disk_file_is_one_blob_that_no_one_parses() -> None:
    world = World(tree(sha256=oci.hex_of(BASE), format=ContentFormat.QCOW2, max_size=1000))
    world.plan()
    assert world.requests()[BASE].max_size == 1000
    world.downloaded(BASE)
    world.plan()
    assert world.claims()[BASE].role == BlobRole.FILE
    world.status(BASE, path="/p/disk")
    world.plan()
    assert world.tree().path == "/p/disk"
    assert world.tree().state == SwState.LOADED


def test_a_disk_in_a_registry_is_the_one_layer_of_its_manifest() -> None:
    world = World(tree(sha256=oci.hex_of(MANIFEST), format=ContentFormat.QCOW2))
    world.plan()
    world.downloaded(MANIFEST, media_type=oci.MANIFEST)
    world.plan()
    assert world.claims()[MANIFEST].role == BlobRole.MANIFEST
    world.status(MANIFEST, children=(child(BASE, BlobRole.LAYER, 500),))
    world.plan()
    assert set(world.requests()) == {BASE}
    world.downloaded(BASE)
    world.plan()
    assert world.claims()[BASE].role == BlobRole.FILE
    world.status(BASE, path="/p/disk")
    world.plan()
    assert world.tree().path == "/p/disk"


# -- progress and trouble --


def test_progress_counts_bytes_of_all_blobs_and_never_before_they_are_known() -> None:
    world = World(by_digest())
    world.plan()
    assert (world.tree().state, world.tree().progress) == (SwState.DOWNLOADING, 0)
    world.load_manifest()
    del world.values[BLOB_STATUS][BASE], world.values[BLOB_STATUS][TOP]
    world.receiving(TOP, 250)
    world.plan()
    assert world.tree().progress == (100 + 100 + 250) * 100 // 1000


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (SwState.VERIFYING, SwState.VERIFYING),
        (SwState.VERIFIED, SwState.LOADING),
        (SwState.LOADING, SwState.LOADING),
        (SwState.LOADED, SwState.LOADED),
    ],
)
def test_a_tree_is_as_far_as_its_slowest_blob(blob: SwState, expected: SwState) -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    world.status(TOP, blob)
    world.plan()
    assert world.tree().state == expected


def test_a_tree_is_downloading_until_all_its_blobs_are_known() -> None:
    world = World(tree(sha256=oci.hex_of(INDEX)))
    world.status(INDEX, SwState.VERIFYING)
    world.plan()
    assert world.tree().state == SwState.DOWNLOADING
    world.status(INDEX, children=(child(MANIFEST, BlobRole.MANIFEST),))
    world.plan()
    assert world.tree().state == SwState.DOWNLOADING


def test_the_time_of_a_state_stays_while_the_state_does() -> None:
    world = World(by_digest())
    world.plan()
    world.now = 2000.0
    world.receiving(MANIFEST, 50)
    world.plan()
    assert world.tree().since == 1000.0
    world.load_manifest()
    world.plan()
    assert (world.tree().state, world.tree().since) == (SwState.LOADED, 2000.0)


def test_a_download_in_trouble_is_told_while_it_is_retried() -> None:
    world = World(by_digest())
    trouble = Trouble(why="cannot fetch: no connection in time", since=1.0, retry_at=5.0)
    world.receiving(MANIFEST, 0, trouble)
    world.plan()
    assert (world.tree().state, world.tree().trouble) == (SwState.DOWNLOADING, trouble)
    assert MANIFEST in world.requests()


def test_a_refused_download_fails_the_tree() -> None:
    world = World(by_digest())
    trouble = Trouble(why="it has 10 bytes, allowed are 5", since=1.0)
    world.values[BLOB_DOWNLOAD][MANIFEST] = BlobDownload(
        digest=MANIFEST, state=SwState.FAILED, trouble=trouble
    )
    world.plan()
    assert (world.tree().state, world.tree().trouble) == (SwState.FAILED, trouble)


@pytest.mark.parametrize(
    ("children", "diff_ids", "why"),
    [
        ((), (), "no config, or no layers"),
        ((child(CONFIG, BlobRole.CONFIG),), (), "no config, or no layers"),
        (
            (child(CONFIG, BlobRole.CONFIG), child(BASE, BlobRole.LAYER)),
            (Digest("sha256:d1"), Digest("sha256:d2")),
            "1 layers, but 2 in its config",
        ),
        (
            (child(CONFIG, BlobRole.CONFIG), *[child(BASE, BlobRole.LAYER)] * 2),
            (Digest("sha256:d1"), Digest("sha256:d2")),
            "one layer is said to hold two contents",
        ),
        ((child(CONFIG, BlobRole.CONFIG, oci.MAX_DOCUMENT + 1),), (), "no layers"),
    ],
)
def test_an_image_that_contradicts_itself_fails_and_says_why(
    children: tuple[BlobChild, ...], diff_ids: tuple[Digest, ...], why: str
) -> None:
    world = World(by_digest())
    world.status(MANIFEST, children=children)
    world.status(CONFIG, diff_ids=diff_ids)
    world.plan()
    assert world.tree().state == SwState.FAILED
    trouble = world.tree().trouble
    assert trouble is not None
    assert why in trouble.why
    assert trouble.why.startswith("cannot load apps/hello:1: ")


def test_trouble_that_stays_the_same_is_not_told_anew_at_every_plan() -> None:
    world = World(by_digest())
    world.status(MANIFEST)
    world.plan()
    first = world.tree()
    world.now += 10
    world.plan()
    assert world.tree() == first


def test_an_image_beyond_its_bound_is_not_fetched() -> None:
    world = World(by_digest(max_size=700))
    world.load_manifest()
    for digest in (CONFIG, BASE, TOP):
        del world.values[BLOB_STATUS][digest]
    world.plan()
    assert not world.requests()
    assert world.tree().state == SwState.FAILED
    assert "it has 900 bytes, allowed are 700" in str(world.tree().trouble)


def test_indexes_nested_without_end_are_given_up() -> None:
    world = World(by_digest())
    world.status(MANIFEST, children=(child(MANIFEST, BlobRole.MANIFEST),))
    world.plan()
    assert "nested too deeply" in str(world.tree().trouble)


# -- wrong bytes --


def wrong(world: World, attempt: int) -> None:
    trouble = Trouble(why="cannot use it: other bytes", since=7.0)
    world.status(MANIFEST, SwState.FAILED, attempt=attempt, wrong=True, trouble=trouble)


def test_wrong_bytes_are_downloaded_again_and_claimed_when_they_are_there() -> None:
    world = World(by_digest())
    world.downloaded(MANIFEST)
    world.plan()
    wrong(world, 0)
    world.plan()
    assert world.requests()[MANIFEST].attempt == 1
    assert world.claims()[MANIFEST].attempt == 0
    assert world.tree().state == SwState.DOWNLOADING
    assert "other bytes" in str(world.tree().trouble)
    world.downloaded(MANIFEST, attempt=1)
    world.plan()
    assert world.claims()[MANIFEST].attempt == 1
    world.plan()
    assert world.tree().state == SwState.DOWNLOADING
    assert world.tree().trouble is None
    assert world.requests()[MANIFEST].attempt == 1


def test_bytes_that_are_wrong_for_good_fail_after_five_retries() -> None:
    world = World(by_digest())
    world.downloaded(MANIFEST)
    world.plan()
    attempts = []
    for attempt in range(6):
        attempts.append(world.claims()[MANIFEST].attempt)
        wrong(world, attempt)
        world.plan()
        world.downloaded(MANIFEST, attempt=attempt + 1)
        world.plan()
    assert attempts == [0, 1, 2, 3, 4, 5]
    assert world.tree().state == SwState.FAILED
    assert "5 retries included" in str(world.tree().trouble)
    assert not world.requests()


def test_the_number_of_retries_is_a_property() -> None:
    world = World(by_digest())
    world.values[PROPERTY]["blob.download.max.retries"] = Property(value="1")
    world.values[BLOB_CLAIM] = {
        MANIFEST: BlobClaim(digest=MANIFEST, role=BlobRole.MANIFEST, attempt=1)
    }
    wrong(world, 1)
    world.plan()
    assert world.tree().state == SwState.FAILED


# -- restarts --


def test_after_a_restart_nothing_is_downloaded_before_the_verifier_has_looked() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    claims = dict(world.claims())
    restarted = World(by_digest())
    restarted.values[BLOB_CLAIM] = dict(claims)
    restarted.plan()
    assert not restarted.requests()
    assert restarted.claims() == {MANIFEST: claims[MANIFEST], **restarted.claims()}
    restarted.status(MANIFEST, SwState.VERIFYING)
    restarted.plan()
    assert not restarted.requests()


def test_a_blob_that_the_disk_lost_is_downloaded_again() -> None:
    world = World(by_digest())
    world.values[BLOB_CLAIM] = {
        MANIFEST: BlobClaim(digest=MANIFEST, role=BlobRole.MANIFEST, attempt=2)
    }
    world.status(MANIFEST, SwState.INITIAL, attempt=2, size=0)
    world.plan()
    assert world.requests()[MANIFEST].attempt == 2
    assert world.claims()[MANIFEST].attempt == 2


def test_a_tag_that_was_resolved_once_is_not_asked_for_again() -> None:
    world = World(tree())
    world.values[TAG_ANSWER][TREE] = TagAnswer(url="apps/hello:1", digest=MANIFEST)
    world.load_manifest()
    world.plan()
    claims = dict(world.claims())
    restarted = World(tree())
    restarted.values[BLOB_CLAIM] = claims
    restarted.load_manifest()
    plan = restarted.plan()
    assert not plan.all(TAG_REQUEST)
    assert restarted.tree().state == SwState.LOADED
    moved = World(tree(url="apps/hello:2"))
    moved.values[BLOB_CLAIM] = claims
    assert moved.plan().all(TAG_REQUEST)


def test_a_layer_s_claim_keeps_its_digest_while_the_config_is_read_again() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    before = world.claims()[TOP]
    world.status(CONFIG, SwState.VERIFYING)
    world.plan()
    assert world.claims()[TOP] == before


# -- sharing and collecting --


def test_a_blob_of_two_trees_is_requested_and_claimed_once() -> None:
    world = World(by_digest(), by_digest(key="t2", url="other/name:3"))
    world.plan()
    assert world.requests()[MANIFEST].url == "apps/hello:1"
    world.load_manifest()
    plan = world.plan()
    assert len(plan.all(BLOB_CLAIM)) == 4
    assert world.tree("t2").state == SwState.LOADED
    del world.values[CONTENT_TREE][TREE]
    world.now += 1000
    world.plan()
    world.now += 1000
    world.plan()
    assert len(world.claims()) == 4


def test_a_blob_that_two_trees_take_for_different_things_fails_the_second() -> None:
    disk = tree(key="t2", sha256=oci.hex_of(BASE), format=ContentFormat.RAW)
    world = World(by_digest(), disk)
    world.load_manifest()
    world.plan()
    assert world.tree().state == SwState.LOADED
    assert "for something else" in str(world.tree("t2").trouble)
    assert world.claims()[BASE].role == BlobRole.LAYER


def test_unused_blobs_go_after_a_grace_and_not_before() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    world.values[CONTENT_TREE].clear()
    plan = world.plan()
    assert plan.again == GRACE
    assert {claim.unused_since for claim in world.claims().values()} == {1000.0}
    world.now += GRACE - 1
    assert world.plan().again == 1
    assert len(world.claims()) == 4
    world.now += 1
    world.plan()
    assert not world.claims()


def test_a_blob_that_is_needed_again_in_time_stays() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    before = dict(world.claims())
    world.values[CONTENT_TREE].clear()
    world.plan()
    world.values[CONTENT_TREE][TREE] = by_digest()
    world.now += 10 * GRACE
    world.plan()
    assert world.claims() == before


def test_the_grace_is_a_property() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    world.values[CONTENT_TREE].clear()
    world.values[PROPERTY]["timer.defer.content.delete"] = Property(value="3600")
    assert world.plan().again == 3600


def test_nothing_goes_before_a_config_is_known() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    started = World()
    started.values[BLOB_CLAIM] = {
        key: structs.replace(claim, unused_since=1.0) for key, claim in world.claims().items()
    }
    started.values[AGENT_STATUS] = {"node": structs.replace(ONLINE, config_from="")}
    started.now += 10 * GRACE
    started.plan()
    started.now += 10 * GRACE
    started.plan()
    assert len(started.claims()) == 4
    started.values[AGENT_STATUS] = {"node": ONLINE}
    started.plan()
    assert len(started.claims()) == 4


def test_a_clock_that_is_set_back_starts_the_grace_anew() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    world.values[CONTENT_TREE].clear()
    world.plan()
    world.now = 10.0
    assert world.plan().again == GRACE


def test_layers_below_a_volume_stay_though_their_tree_is_gone() -> None:
    world = World(by_digest())
    world.load_manifest()
    world.plan()
    world.values[CONTENT_TREE].clear()
    world.values[VOLUME_STATUS]["v#0"] = VolumeStatus(
        id=VolumeId("v"),
        generation=0,
        state=SwState.LOADING,
        since=0,
        layers=(f"/layers/{oci.hex_of(BASE)}", f"/layers/{oci.hex_of(TOP)}"),
    )
    world.plan()
    world.now += 2 * GRACE
    world.plan()
    assert set(world.claims()) == {BASE, TOP}


def test_a_failed_tree_keeps_what_it_has_and_fetches_nothing() -> None:
    world = World(by_digest())
    world.downloaded(MANIFEST)
    world.plan()
    world.status(MANIFEST)
    world.plan()
    world.now += 10 * GRACE
    world.plan()
    assert set(world.claims()) == {MANIFEST}
    assert world.claims()[MANIFEST].unused_since is None
    assert not world.requests()


SYSTEM = Digest("sha256:" + "e" * 64)


def closed_vault() -> World:
    """An app's image was had before; then the node started, and its vault stayed closed."""
    world = World(by_digest())
    world.load_image()
    world.plan()
    disk = tree("os", format=ContentFormat.RAW, sha256=oci.hex_of(SYSTEM))
    world.values[CONTENT_TREE]["os"] = disk
    world.run_system("os")
    world.vault_open = False
    world.values[BLOB_STATUS].clear()
    return world


def test_with_a_closed_vault_the_operating_system_is_fetched_and_nothing_else() -> None:
    world = closed_vault()
    world.plan()
    assert {digest: request.system for digest, request in world.requests().items()} == {
        SYSTEM: True
    }
    world.downloaded(SYSTEM)
    world.plan()
    assert world.claims()[SYSTEM].system


def test_with_a_closed_vault_nothing_that_is_in_it_is_given_up() -> None:
    world = closed_vault()
    before = dict(world.claims())
    world.now += 10 * GRACE
    world.plan()
    world.now += 10 * GRACE
    world.plan()
    assert before
    assert {digest: world.claims()[digest] for digest in before} == before


def test_an_operating_system_s_image_is_kept_outside_the_vault_though_an_app_has_it_too() -> None:
    world = World(
        tree("app", format=ContentFormat.RAW, sha256=oci.hex_of(TOP)),
        tree("os", format=ContentFormat.RAW, sha256=oci.hex_of(TOP)),
    )
    world.run_system("os")
    world.plan()
    assert world.requests()[TOP].system
