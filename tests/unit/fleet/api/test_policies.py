"""Which AttestationPolicy judges a node is no question: admission refuses what makes it one."""

from __future__ import annotations

from typing import Any

from tests.parts.operators_api import HERE, MERGE, Json, World, manifest, refusal

POLICIES = f"{HERE}/attestationpolicies"
STATE: Json = {"accepted": [{"name": "a", "registers": {"13": ["a" * 64]}}]}


def selecting(**labels: str) -> Json:
    return {**STATE, "nodeSelector": {"matchLabels": labels}}


def policy(name: str, spec: Json) -> dict[str, Any]:
    return manifest("AttestationPolicy", name, spec)


async def test_a_project_has_one_default(world: World) -> None:
    await world.create("AttestationPolicy", "one", STATE)
    body = refusal(await world.admin.post(POLICIES, json=policy("two", STATE)), 422)
    assert '"one" is the default of the project' in body["message"]
    await world.create("AttestationPolicy", "berlin", selecting(site="berlin"))


async def test_two_policies_cannot_pick_one_node(world: World) -> None:
    labels = {"site": "berlin", "model": "x"}
    await world.create("EdgeNode", "node", {"serial": "s1"}, labels=labels)
    await world.create("AttestationPolicy", "berlin", selecting(site="berlin"))
    late = policy("x", selecting(model="x"))
    body = refusal(await world.admin.post(POLICIES, json=late), 422)
    assert '"berlin" picks EdgeNode "node" too' in body["message"]


async def test_labels_that_bring_a_node_under_two_policies_are_refused(world: World) -> None:
    await world.create("EdgeNode", "node", {"serial": "s1"}, labels={"site": "berlin"})
    await world.create("AttestationPolicy", "berlin", selecting(site="berlin"))
    await world.create("AttestationPolicy", "x", selecting(model="x"))
    change = {"metadata": {"labels": {"model": "x"}}}
    path = f"{HERE}/edgenodes/node"
    body = refusal(await world.admin.patch(path, json=change, headers=MERGE), 422)
    assert '"berlin" and "x" would both pick the node' in body["message"]


async def test_a_policy_learns_only_from_images_that_are_there(world: World) -> None:
    spec: Json = {"learnFrom": {"names": ["os-1"]}}
    body = refusal(await world.admin.post(POLICIES, json=policy("p", spec)), 422)
    assert "spec.learnFrom.names[0]: Not found" in body["message"]


async def make_os_image(world: World, name: str, **more: Any) -> None:
    await world.create("Datastore", "files", {"type": "HTTPS", "url": "https://files.example"})
    spec = {
        "version": f"{name}-1",
        "datastoreRefs": [{"name": "files"}],
        "reference": "root.img",
        "sha256": "a" * 64,
        **more,
    }
    await world.create("OSImage", name, spec)


async def test_an_os_for_another_architecture_is_refused(world: World) -> None:
    await make_os_image(world, "arm", architecture="arm64")
    await world.create("EdgeNode", "node", {"serial": "s1"})
    path, change = f"{HERE}/edgenodes/node", {"spec": {"os": {"image": "arm"}}}
    told = {"status": {"architecture": "amd64"}}
    assert (await world.admin.patch(f"{path}/status", json=told, headers=MERGE)).is_success
    body = refusal(await world.admin.patch(path, json=change, headers=MERGE), 422)
    assert "it is for arm64, and the node is amd64" in body["message"]


async def test_a_node_s_os_must_be_there(world: World) -> None:
    node = manifest("EdgeNode", "node", {"serial": "s1", "os": {"image": "nope"}})
    body = refusal(await world.admin.post(f"{HERE}/edgenodes", json=node), 422)
    assert "spec.os.image: Not found" in body["message"]


async def test_a_version_of_the_os_cannot_become_another_one(world: World) -> None:
    await make_os_image(world, "one")
    change = {"spec": {"sha256": "b" * 64}}
    refused = await world.admin.patch(f"{HERE}/osimages/one", json=change, headers=MERGE)
    assert "field is immutable" in refusal(refused, 422)["message"]
    moved = {"spec": {"reference": "elsewhere/root.img"}}
    path = f"{HERE}/osimages/one"
    assert (await world.admin.patch(path, json=moved, headers=MERGE)).status_code == 200
