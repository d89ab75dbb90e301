"""A content tree that must be signed: nothing of it is fetched before a signature is proven."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import BlobChild, BlobRole, TagAnswer
from edgevirt.model.ids import DatastoreId, Digest
from edgevirt.model.kinds import CONTENT_TREE, TAG_ANSWER, TAG_REQUEST
from edgevirt.node.volumes.signatures import LOOK_AGAIN, signature_url
from edgevirt.wire import cosign
from tests.worlds.content_plan import MANIFEST, TREE, World, by_digest, tree

SIGNATURES, PAYLOAD, OTHER = (Digest("sha256:" + letter * 64) for letter in "789")
KEY, WRONG = "key\n", "wrong\n"
URL = f"apps/hello:sha256-{'2' * 64}.sig"


def signed_world(**fields: Any) -> World:
    return World(by_digest(signers=(KEY,), **fields))


def answer(world: World, digest: Digest | None = SIGNATURES, **fields: Any) -> None:
    world.values[TAG_ANSWER][f"{TREE}.sig"] = TagAnswer(url=URL, digest=digest, **fields)


def found_signatures(world: World, *payloads: tuple[Digest, str]) -> None:
    children = tuple(
        BlobChild(digest=payload, role=BlobRole.PAYLOAD, size=9, media_type="", signature=signature)
        for payload, signature in payloads
    )
    world.status(SIGNATURES, children=children)
    world.plan()


def prove(world: World, payload: Digest = PAYLOAD, **fields: Any) -> None:
    """What the verifier says of a payload."""
    claim = world.claims()[payload]
    given = {"signed": MANIFEST, "signers": (KEY,), "asked": claim.keys, **fields}
    world.status(payload, size=9, **given)
    world.plan()


def to_the_payload(world: World) -> None:
    world.plan()
    answer(world)
    world.plan()
    found_signatures(world, (PAYLOAD, "c2ln"))
    world.downloaded(PAYLOAD)
    world.plan()


def test_the_signatures_are_looked_for_first_and_beside_the_image() -> None:
    world = signed_world()
    plan = world.plan()
    asked = plan.get(TAG_REQUEST, f"{TREE}.sig")
    assert asked is not None
    assert (asked.url, asked.datastores) == (URL, (DatastoreId("d1"), DatastoreId("d2")))
    assert not world.requests()
    assert world.tree().state == SwState.RESOLVING_TAG
    answer(world)
    world.plan()
    assert set(world.requests()) == {SIGNATURES}
    assert world.requests()[SIGNATURES].is_manifest


def test_a_tag_is_resolved_before_its_signatures_are_looked_for() -> None:
    world = World(tree(signers=(KEY,)))
    assert set(world.plan().all(TAG_REQUEST)) == {TREE}


def test_what_was_signed_is_proven_with_the_tree_s_keys() -> None:
    world = signed_world()
    world.plan()
    answer(world)
    world.plan()
    found_signatures(world, (PAYLOAD, "one"), (PAYLOAD, "two"), (OTHER, "three"))
    for payload in (PAYLOAD, OTHER):
        world.downloaded(payload)
    world.plan()
    claim = world.claims()[PAYLOAD]
    assert (claim.role, claim.signatures, claim.keys) == (BlobRole.PAYLOAD, ("one", "two"), (KEY,))
    assert set(world.requests()) <= {SIGNATURES, PAYLOAD, OTHER}


def test_with_a_good_signature_the_tree_is_fetched_and_its_tag_not_asked_for_again() -> None:
    world = signed_world()
    to_the_payload(world)
    assert MANIFEST not in world.requests()
    prove(world)
    assert MANIFEST in world.requests()
    world.load_manifest()
    plan = world.plan()
    assert world.tree().state == SwState.LOADED
    assert not plan.all(TAG_REQUEST)
    assert {SIGNATURES, PAYLOAD} <= set(world.tree().blobs)


def test_one_good_signature_among_others_is_enough() -> None:
    world = signed_world()
    world.plan()
    answer(world)
    world.plan()
    found_signatures(world, (PAYLOAD, "one"), (OTHER, "two"))
    for payload in (PAYLOAD, OTHER):
        world.downloaded(payload)
    world.plan()
    prove(world, OTHER, signers=())
    prove(world, PAYLOAD)
    assert MANIFEST in world.requests()


def refused(world: World) -> str:
    assert world.tree().state == SwState.FAILED
    assert MANIFEST not in world.requests()
    assert MANIFEST not in world.claims()
    return str(world.tree().trouble)


def test_a_signature_by_another_key_is_refused() -> None:
    world = signed_world()
    to_the_payload(world)
    prove(world, signers=())
    assert "none of its signatures is by a key that it must be signed with" in refused(world)


def test_a_signature_of_another_image_is_refused() -> None:
    world = signed_world()
    to_the_payload(world)
    prove(world, signed=OTHER)
    assert "none of its signatures" in refused(world)


def test_an_image_that_nobody_signed_is_refused_with_what_the_registry_said() -> None:
    world = signed_world()
    world.plan()
    answer(world, None, trouble=Trouble(why="registry answered 404", since=1.0))
    world.plan()
    assert "it is not signed, as it must be: registry answered 404" in refused(world)


def test_a_manifest_without_signatures_is_refused() -> None:
    world = signed_world()
    world.plan()
    answer(world)
    world.plan()
    found_signatures(world)
    assert "no signature is beside it" in refused(world)


def test_who_signs_later_is_noticed() -> None:
    world = signed_world()
    to_the_payload(world)
    prove(world, signers=())
    assert (asked := world.plan().get(TAG_REQUEST, f"{TREE}.sig")) is not None
    assert asked.attempt == 0
    world.now += LOOK_AGAIN + 1
    asked = world.plan().get(TAG_REQUEST, f"{TREE}.sig")
    assert asked is not None
    assert asked.attempt == 1
    later = Digest("sha256:" + "6" * 64)
    answer(world, later, attempt=1)
    world.plan()
    child = BlobChild(digest=OTHER, role=BlobRole.PAYLOAD, size=9, media_type="", signature="new")
    world.status(later, children=(child,))
    world.downloaded(OTHER)
    world.plan()
    prove(world, OTHER)
    assert MANIFEST in world.requests()
    for _ in range(3):  # the answer is gone with its question; the old signatures stay a while
        world.values[TAG_ANSWER].clear()
        world.plan()
        assert MANIFEST in world.requests()


def test_a_key_that_the_policy_no_longer_has_proves_nothing() -> None:
    world = signed_world()
    to_the_payload(world)
    prove(world)
    before = world.values[CONTENT_TREE][TREE]
    world.values[CONTENT_TREE][TREE] = structs.replace(before, signers=(WRONG,))
    world.plan()
    assert MANIFEST not in world.requests()
    assert WRONG in world.claims()[PAYLOAD].keys
    prove(world, signers=())
    assert "none of its signatures" in refused(world)


def test_a_payload_beyond_its_bound_is_not_fetched() -> None:
    world = signed_world()
    world.plan()
    answer(world)
    child = BlobChild(
        digest=PAYLOAD,
        role=BlobRole.PAYLOAD,
        size=cosign.MAX_PAYLOAD + 1,
        media_type="",
        signature="x",
    )
    world.status(SIGNATURES, children=(child,))
    world.plan()
    assert PAYLOAD not in world.requests()


def test_the_repository_of_the_signatures_is_the_image_s() -> None:
    tag = f"sha256-{'2' * 64}.sig"
    for url in ("a/b", "a/b:1", f"a/b@{MANIFEST}", f"a/b:1@{MANIFEST}"):
        assert signature_url(url, MANIFEST) == f"a/b:{tag}"
