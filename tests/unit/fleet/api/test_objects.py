"""Creating, changing and deleting objects by Kubernetes' rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgevirt.fleet.objects.kinds import BY_NAME
from tests.parts.operators_api import (
    APP,
    BASE,
    HERE,
    JSON_PATCH,
    MERGE,
    Json,
    World,
    manifest,
    refusal,
)


async def test_a_new_object_gets_what_the_server_keeps(world: World) -> None:
    body = await world.create("EdgeNode", "n", {"serial": "s"}, uid="mine", generation=9)
    meta = body["metadata"]
    assert meta["uid"] != "mine"
    assert meta["generation"] == 1
    assert meta["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert int(meta["resourceVersion"]) > 0
    assert body["spec"]["activate"] is True
    got = await world.admin.get(f"{HERE}/edgenodes/n")
    assert got.json() == body


async def test_status_is_not_taken_from_the_main_resource(world: World) -> None:
    node = {**manifest("EdgeNode", "n", {"serial": "s"}), "status": {"phase": "Online"}}
    created = await world.admin.post(f"{HERE}/edgenodes", json=node)
    assert "phase" not in created.json()["status"]
    change = {"status": {"phase": "Online"}, "spec": {"serial": "t"}}
    path = f"{HERE}/edgenodes/n"
    patched = (await world.admin.patch(path, json=change, headers=MERGE)).json()
    assert (patched["spec"]["serial"], patched["status"].get("phase")) == ("t", None)
    patched = (await world.admin.patch(f"{path}/status", json=change, headers=MERGE)).json()
    assert patched["status"]["phase"] == "Online"
    change["spec"]["serial"] = "u"
    patched = (await world.admin.patch(f"{path}/status", json=change, headers=MERGE)).json()
    assert patched["spec"]["serial"] == "t"
    assert patched["metadata"]["generation"] == 2


async def test_a_name_may_be_generated(world: World) -> None:
    node = manifest("EdgeNode", "", {"serial": "s"}, generateName="node-")
    body = (await world.admin.post(f"{HERE}/edgenodes", json=node)).json()
    assert body["metadata"]["name"].startswith("node-")
    assert len(body["metadata"]["name"]) == len("node-") + 5


async def test_a_taken_name_is_refused(world: World) -> None:
    await world.create("EdgeNode", "n", {"serial": "s"})
    node = manifest("EdgeNode", "n", {"serial": "t"})
    body = refusal(await world.admin.post(f"{HERE}/edgenodes", json=node), 409)
    assert body["reason"] == "AlreadyExists"
    assert body["message"] == 'edgenodes.edgevirt.io "n" already exists'


async def test_two_nodes_cannot_have_one_serial(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "s"})
    node = manifest("EdgeNode", "b", {"serial": "s"})
    body = refusal(await world.admin.post(f"{HERE}/edgenodes", json=node), 422)
    assert 'it is the serial of EdgeNode "a"' in body["message"]


async def test_every_problem_is_told_at_once_with_its_field(world: World) -> None:
    spec = {**APP, "type": "Nonsense", "resources": {"cpu": "x", "memory": 1}}
    app = manifest("App", "a", spec)
    body = refusal(await world.admin.post(f"{HERE}/apps", json=app), 422)
    fields = [cause["field"] for cause in body["details"]["causes"]]
    assert fields == ["spec.type", "spec.resources.cpu", "spec.resources.memory"]
    assert body["message"].startswith('App.edgevirt.io "a" is invalid: [')


async def test_wrong_types_are_told_with_their_paths(world: World) -> None:
    spec: Any = {"image": 7, "interfaces": [{"ports": [{"nodePort": "80"}]}], "env": {}}
    body = refusal(await world.admin.post(f"{HERE}/apps", json=manifest("App", "a", spec)), 422)
    causes = {cause["field"]: cause["message"] for cause in body["details"]["causes"]}
    assert "must be of type string, not integer" in causes["spec.image"]
    assert "must be of type integer" in causes["spec.interfaces[0].ports[0].nodePort"]
    assert "must be of type array, not object" in causes["spec.env"]


async def test_unknown_fields_are_refused_warned_of_or_ignored(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial": "s", "colour": "red"})
    url = f"{HERE}/edgenodes?dryRun=All&fieldValidation="
    body = refusal(await world.admin.post(f"{url}Strict", json=node), 400)
    assert body["message"] == 'strict decoding error: unknown field "spec.colour"'
    warned = await world.admin.post(f"{url}Warn", json=node)
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.colour\\""'
    assert "colour" not in warned.json()["spec"]
    ignored = await world.admin.post(f"{url}Ignore", json=node)
    assert "warning" not in ignored.headers
    refusal(await world.admin.post(f"{url}Perhaps", json=node), 400)


async def test_a_dry_run_judges_and_keeps_nothing(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial": "s"})
    created = await world.admin.post(f"{HERE}/edgenodes?dryRun=All", json=node)
    assert created.status_code == 201
    refusal(await world.admin.get(f"{HERE}/edgenodes/n"), 404)
    refusal(await world.admin.post(f"{HERE}/edgenodes?dryRun=Some", json=node), 400)
    instance = manifest("AppInstance", "i", {"app": "a", "edgeNode": "n"})
    dry = await world.admin.post(f"{HERE}/appinstances?dryRun=All", json=instance)
    assert dry.status_code == 201
    assert "there is no App of this name" in dry.headers.get_list("warning")[0]
    await world.create("EdgeNode", "n", {"serial": "s"})
    deleted = await world.admin.delete(f"{HERE}/edgenodes/n?dryRun=All")
    assert deleted.json()["status"] == "Success"
    assert (await world.admin.get(f"{HERE}/edgenodes/n")).status_code == 200


async def test_a_change_that_changes_nothing_makes_no_version(world: World) -> None:
    body = await world.create("EdgeNode", "n", {"serial": "s"})
    again = await world.admin.put(f"{HERE}/edgenodes/n", json=body)
    assert again.json() == body
    patched = await world.admin.patch(f"{HERE}/edgenodes/n", json={}, headers=MERGE)
    assert patched.json() == body


async def test_a_stale_version_and_a_wrong_uid_are_refused(world: World) -> None:
    body = await world.create("EdgeNode", "n", {"serial": "s"})
    path = f"{HERE}/edgenodes/n"
    await world.admin.patch(path, json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert refusal(await world.admin.put(path, json=body), 409)["reason"] == "Conflict"
    stale = {"metadata": {"resourceVersion": body["metadata"]["resourceVersion"]}}
    refusal(await world.admin.patch(path, json=stale, headers=MERGE), 409)
    other = {"metadata": {"uid": "another"}}
    assert (
        "UID" in refusal(await world.admin.patch(path, json=other, headers=MERGE), 409)["message"]
    )


async def test_name_and_namespace_must_be_the_path_s(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial": "s"}, namespace="elsewhere")
    refusal(await world.admin.post(f"{HERE}/edgenodes", json=node), 400)
    await world.create("EdgeNode", "n", {"serial": "s"})
    other = manifest("EdgeNode", "m", {"serial": "s"})
    refusal(await world.admin.put(f"{HERE}/edgenodes/n", json=other), 400)
    wrong = {**manifest("EdgeNode", "n", {}), "kind": "App"}
    assert (
        "'App'" in refusal(await world.admin.put(f"{HERE}/edgenodes/n", json=wrong), 400)["message"]
    )


async def test_put_of_nothing_is_not_found(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial": "s"})
    body = refusal(await world.admin.put(f"{HERE}/edgenodes/n", json=node), 404)
    assert body["details"] == {"name": "n", "group": "edgevirt.io", "kind": "edgenodes"}


async def test_immutable_fields_cannot_change(world: World) -> None:
    await world.hello()
    await world.create("EdgeNode", "other", {"serial": "s2"})
    await world.create("AppInstance", "i", {"app": "hello", "edgeNode": "node"})
    change = {"spec": {"edgeNode": "other"}}
    path = f"{HERE}/appinstances/i"
    body = refusal(await world.admin.patch(path, json=change, headers=MERGE), 422)
    assert "spec.edgeNode: Invalid value" in body["message"]
    assert "immutable" in body["message"]


async def test_writers_at_the_same_time_do_not_lose_each_other_s_changes(world: World) -> None:
    await world.create("EdgeNode", "n", {"serial": "s"})
    await asyncio.gather(
        *(
            world.admin.patch(
                f"{HERE}/edgenodes/n",
                json={"metadata": {"labels": {f"l{number}": "x"}}},
                headers=MERGE,
            )
            for number in range(20)
        )
    )
    labels = (await world.admin.get(f"{HERE}/edgenodes/n")).json()["metadata"]["labels"]
    assert len(labels) == 20


async def test_a_patch_goes_on_when_another_writer_was_faster(world: World) -> None:
    """Statuses are written past the API: a patch must not fail for that, nor undo it."""
    await world.create("EdgeNode", "n", {"serial": "s"})
    kind = BY_NAME["EdgeNode"].store

    async def report() -> None:
        held = await world.store.get(kind, "default/n")
        assert held is not None
        status = type(held.value.status)(phase="Online")
        node = type(held.value)(metadata=held.value.metadata, spec=held.value.spec, status=status)
        await world.store.put(kind, "default/n", node)

    world.store.meanwhile = report
    change = {"spec": {"activate": False}}
    body = (await world.admin.patch(f"{HERE}/edgenodes/n", json=change, headers=MERGE)).json()
    assert (body["spec"]["activate"], body["status"]["phase"]) == (False, "Online")


# -- deleting --


async def test_deleting_tells_which_object_is_gone(world: World) -> None:
    body = await world.create("EdgeNode", "n", {"serial": "s"})
    answer = (await world.admin.delete(f"{HERE}/edgenodes/n")).json()
    assert answer["status"] == "Success"
    assert answer["details"]["uid"] == body["metadata"]["uid"]
    refusal(await world.admin.delete(f"{HERE}/edgenodes/n"), 404)


async def test_deletion_by_precondition(world: World) -> None:
    await world.create("EdgeNode", "n", {"serial": "s"})
    path = f"{HERE}/edgenodes/n"
    for wanted in ({"uid": "another"}, {"resourceVersion": "1"}):
        request = world.admin.build_request("DELETE", path, json={"preconditions": wanted})
        refusal(await world.admin.send(request), 409)
    assert (await world.admin.get(path)).status_code == 200


async def test_an_object_with_finalizers_waits_for_the_last_one(world: World) -> None:
    await world.create("EdgeNode", "n", {"serial": "s"}, finalizers=["a.io/x", "b.io/y"])
    path = f"{HERE}/edgenodes/n"
    first = (await world.admin.delete(path)).json()
    assert first["metadata"]["deletionTimestamp"]
    assert (await world.admin.delete(path)).json() == first
    more = {"metadata": {"finalizers": ["a.io/x", "c.io/z"]}}
    refusal(await world.admin.patch(path, json=more, headers=MERGE), 422)
    one = {"metadata": {"finalizers": ["a.io/x"]}}
    assert (await world.admin.patch(path, json=one, headers=MERGE)).status_code == 200
    none: Json = {"metadata": {"finalizers": []}}
    assert (await world.admin.patch(path, json=none, headers=MERGE)).status_code == 200
    refusal(await world.admin.get(path), 404)


USED = (
    ("edgenodes", "node", 'AppInstance "i" (spec.edgeNode)'),
    ("apps", "hello", 'AppInstance "i" (spec.app)'),
    ("images", "hello", 'App "hello" (spec.image)'),
    ("datastores", "registry", 'Image "hello" (spec.datastoreRefs[0].name)'),
    ("networkinstances", "apps", 'App "hello" (spec.interfaces[0].networkInstance)'),
)


async def make_used(world: World) -> None:
    await world.hello()
    await world.create("AppInstance", "i", {"app": "hello", "edgeNode": "node"})


async def test_a_used_object_stays_until_its_last_user_goes(world: World) -> None:
    await make_used(world)
    for kind, name, user in USED:
        answer = await world.admin.delete(f"{HERE}/{kind}/{name}")
        assert answer.status_code == 200
        assert user in answer.headers["warning"].replace("\\", "")
        meta = answer.json()["metadata"]
        assert meta["deletionTimestamp"]
        assert meta["finalizers"] == ["edgevirt.io/in-use"]
    for kind, name, _ in USED:
        assert (await world.admin.get(f"{HERE}/{kind}/{name}")).status_code == 200
    await world.admin.delete(f"{HERE}/appinstances/i")
    for kind, name, _ in USED:
        refusal(await world.admin.get(f"{HERE}/{kind}/{name}"), 404)


async def test_a_volume_outlives_its_apps_and_its_node_does_not_go_before_it(world: World) -> None:
    await world.hello()
    await world.create("Volume", "books", {"edgeNode": "node", "size": "1Gi"})
    named = {"name": "data", "volume": "books", "mountPath": "/data"}
    await world.create("App", "reader", {"image": "hello", "volumes": [named]})
    node = await world.admin.delete(f"{HERE}/edgenodes/node")
    assert 'Volume "books" (spec.edgeNode)' in node.headers["warning"].replace("\\", "")
    await world.admin.delete(f"{HERE}/apps/reader")
    assert (await world.admin.get(f"{HERE}/volumes/books")).status_code == 200
    await world.create("App", "reader", {"image": "hello", "volumes": [named]})
    await world.admin.delete(f"{HERE}/volumes/books")
    assert (await world.admin.get(f"{HERE}/volumes/books")).status_code == 200
    await world.admin.delete(f"{HERE}/apps/reader")
    refusal(await world.admin.get(f"{HERE}/volumes/books"), 404)
    refusal(await world.admin.get(f"{HERE}/edgenodes/node"), 404)


async def test_what_a_volume_is_cannot_be_changed(world: World) -> None:
    await world.hello()
    await world.create("Volume", "books", {"edgeNode": "node", "size": "1Gi"})
    for field, value in (("image", "hello"), ("edgeNode", "other")):
        change = {"spec": {field: value}}
        answer = await world.admin.patch(f"{HERE}/volumes/books", json=change, headers=MERGE)
        assert "immutable" in refusal(answer, 422)["message"]
    for size, code in (("2Gi", 200), ("1Gi", 422), ("lots", 422)):
        change = {"spec": {"size": size}}
        answer = await world.admin.patch(f"{HERE}/volumes/books", json=change, headers=MERGE)
        assert answer.status_code == code
    assert "must be a quantity" in answer.json()["message"]
    anew = {"spec": {"purgeCounter": 1}}
    answer = await world.admin.patch(f"{HERE}/volumes/books", json=anew, headers=MERGE)
    assert answer.status_code == 200


async def test_what_is_used_otherwise_from_now_on_lets_the_old_go(world: World) -> None:
    await make_used(world)
    await world.create("Image", "new", {"datastoreRefs": [{"name": "registry"}], "reference": "n"})
    await world.admin.delete(f"{HERE}/images/hello")
    assert (await world.admin.get(f"{HERE}/images/hello")).status_code == 200
    change = {"spec": {"image": "new"}}
    await world.admin.patch(f"{HERE}/apps/hello", json=change, headers=MERGE)
    refusal(await world.admin.get(f"{HERE}/images/hello"), 404)
    assert (await world.admin.get(f"{HERE}/datastores/registry")).status_code == 200


async def test_users_go_on_with_what_is_being_deleted_but_nobody_new(world: World) -> None:
    await make_used(world)
    await world.admin.delete(f"{HERE}/images/hello")
    change = {"spec": {"env": [{"name": "A", "value": "1"}]}}
    changed = await world.admin.patch(f"{HERE}/apps/hello", json=change, headers=MERGE)
    assert changed.status_code == 200
    body = refusal(
        await world.admin.post(f"{HERE}/apps", json=manifest("App", "other", {"image": "hello"})),
        422,
    )
    assert "this Image is being deleted" in body["message"]


async def test_a_used_object_waits_for_its_own_finalizers_too(world: World) -> None:
    await make_used(world)
    path = f"{HERE}/apps/hello"
    await world.admin.patch(path, json={"metadata": {"finalizers": ["a.io/x"]}}, headers=MERGE)
    await world.admin.delete(path)
    await world.admin.delete(f"{HERE}/appinstances/i")
    meta = (await world.admin.get(path)).json()["metadata"]
    assert meta["finalizers"] == ["a.io/x"]
    none: Json = {"metadata": {"finalizers": []}}
    await world.admin.patch(path, json=none, headers=MERGE)
    refusal(await world.admin.get(path), 404)


async def test_a_deletion_of_what_is_used_that_is_only_tried_changes_nothing(world: World) -> None:
    await make_used(world)
    answer = await world.admin.delete(f"{HERE}/apps/hello?dryRun=All")
    assert "in use by" in answer.headers["warning"]
    meta = (await world.admin.get(f"{HERE}/apps/hello")).json()["metadata"]
    assert "deletionTimestamp" not in meta


async def test_what_a_stop_left_in_use_goes_at_the_next_start(world: World) -> None:
    await make_used(world)
    await world.admin.delete(f"{HERE}/apps/hello")
    await world.store.delete(BY_NAME["AppInstance"].store, "default/i")
    await world.api.start()
    refusal(await world.admin.get(f"{HERE}/apps/hello"), 404)


async def test_a_collection_is_deleted_by_selector(world: World) -> None:
    for number in range(4):
        spec = {"serial": f"s{number}"}
        await world.create("EdgeNode", f"n{number}", spec, labels={"odd": str(number % 2)})
    answer = await world.admin.delete(f"{HERE}/edgenodes?labelSelector=odd=1")
    assert [item["metadata"]["name"] for item in answer.json()["items"]] == ["n1", "n3"]
    left = (await world.admin.get(f"{HERE}/edgenodes")).json()["items"]
    assert [item["metadata"]["name"] for item in left] == ["n0", "n2"]


async def test_what_is_being_deleted_cannot_be_named(world: World) -> None:
    await world.hello()
    path = f"{HERE}/edgenodes/node"
    await world.admin.patch(path, json={"metadata": {"finalizers": ["a.io/x"]}}, headers=MERGE)
    await world.admin.delete(path)
    instance = manifest("AppInstance", "i", {"app": "hello", "edgeNode": "node"})
    body = refusal(await world.admin.post(f"{HERE}/appinstances", json=instance), 422)
    assert "this EdgeNode is being deleted" in body["message"]


# -- namespaces --


async def test_a_namespace_goes_when_its_last_object_does(world: World) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "berlin"}}
    assert (await world.admin.post("/api/v1/namespaces", json=space)).status_code == 201
    there = f"{BASE}/namespaces/berlin/edgenodes"
    node = manifest("EdgeNode", "n", {"serial": "s"}, finalizers=["a.io/x"])
    assert (await world.admin.post(there, json=node)).status_code == 201
    answer = (await world.admin.delete("/api/v1/namespaces/berlin")).json()
    assert answer["status"]["phase"] == "Terminating"
    late = manifest("EdgeNode", "m", {"serial": "t"})
    assert "being terminated" in refusal(await world.admin.post(there, json=late), 403)["message"]
    change = [{"op": "remove", "path": "/metadata/finalizers"}]
    await world.admin.patch(f"{there}/n", json=change, headers=JSON_PATCH)
    refusal(await world.admin.get("/api/v1/namespaces/berlin"), 404)


async def test_an_interrupted_deletion_of_a_namespace_is_finished_at_the_next_start(
    world: World,
) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "berlin"}}
    await world.admin.post("/api/v1/namespaces", json=space)
    node = manifest("EdgeNode", "n", {"serial": "s"})
    await world.admin.post(f"{BASE}/namespaces/berlin/edgenodes", json=node)
    kind = BY_NAME["Namespace"].store
    held = await world.store.get(kind, "berlin")
    assert held is not None
    body = type(held.value.metadata)(name="berlin", deletion_timestamp="2026-01-01T00:00:00Z")
    await world.store.put(kind, "berlin", type(held.value)(metadata=body))
    await world.api.start()
    refusal(await world.admin.get("/api/v1/namespaces/berlin"), 404)
    assert (await world.admin.get(f"{BASE}/edgenodes")).json()["items"] == []


async def test_the_default_namespace_stays(world: World) -> None:
    refusal(await world.admin.delete("/api/v1/namespaces/default"), 403)


async def test_nothing_is_made_in_a_namespace_that_is_not_there(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial": "s"})
    body = refusal(await world.admin.post(f"{BASE}/namespaces/nowhere/edgenodes", json=node), 404)
    assert body["message"] == 'namespaces "nowhere" not found'


# -- events --


async def test_an_event_is_one_object_in_two_forms(world: World) -> None:
    about = {"kind": "App", "name": "a", "namespace": "default"}
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "a.1"},
        "regarding": about,
        "reason": "Started",
        "note": "it runs",
        "eventTime": "2026-01-31T08:00:00.000000Z",
    }
    there = "/apis/events.k8s.io/v1/namespaces/default/events"
    assert (await world.admin.post(there, json=event)).status_code == 201
    query = "?fieldSelector=involvedObject.name=a,reason=Started,involvedObject.kind=App"
    (core,) = (await world.admin.get(f"/api/v1/namespaces/default/events{query}")).json()["items"]
    assert (core["message"], core["involvedObject"]) == ("it runs", about)
    (new,) = (await world.admin.get(f"{there}?fieldSelector=regarding.name=a")).json()["items"]
    assert (new["note"], new["apiVersion"]) == ("it runs", "events.k8s.io/v1")
    nothing = {**event, "metadata": {"name": "b"}, "regarding": {}}
    refusal(await world.admin.post(there, json=nothing), 422)


# -- secrets and enrolment --


def secret(name: str = "s", **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


async def test_a_secret_is_sealed_in_the_store_and_open_to_those_who_may(world: World) -> None:
    path = "/api/v1/namespaces/default/secrets"
    created = await world.admin.post(path, json=secret(stringData={"password": "hunter2"}))
    assert created.json()["data"] == {"password": "aHVudGVyMg=="}
    assert "stringData" not in created.json()
    held = await world.store.get(BY_NAME["Secret"].store, "default/s")
    assert held is not None
    assert "aHVudGVyMg==" not in str(held.value)
    version = created.json()["metadata"]["resourceVersion"]
    again = await world.admin.patch(f"{path}/s", json={}, headers=MERGE)
    assert again.json()["metadata"]["resourceVersion"] == version


async def test_an_immutable_secret_stays_as_it_is(world: World) -> None:
    path = "/api/v1/namespaces/default/secrets"
    await world.admin.post(path, json=secret(data={"a": "YQ=="}, immutable=True))
    change = {"data": {"a": "Yg=="}}
    refusal(await world.admin.patch(f"{path}/s", json=change, headers=MERGE), 422)


async def test_core_kinds_take_strategic_merge_patches_others_do_not(world: World) -> None:
    path = "/api/v1/namespaces/default/secrets"
    await world.admin.post(path, json=secret(data={"a": "YQ==", "b": "Yg=="}))
    headers = {"content-type": "application/strategic-merge-patch+json"}
    change = {"data": {"a": None, "c": "Yw=="}}
    patched = await world.admin.patch(f"{path}/s", json=change, headers=headers)
    assert patched.json()["data"] == {"b": "Yg==", "c": "Yw=="}
    await world.create("EdgeNode", "n", {"serial": "s"})
    refused = await world.admin.patch(f"{HERE}/edgenodes/n", json={}, headers=headers)
    assert refusal(refused, 415)["reason"] == "UnsupportedMediaType"


@pytest.mark.parametrize("how", ["", "/approval"])
async def test_an_enrollment_request_is_approved(world: World, how: str) -> None:
    await world.create("EnrollmentRequest", "r", {"serial": "s", "deviceCertificate": world.pem})
    change: Json = {"spec": {"approved": True, "nodeName": "n"}}
    path = f"{HERE}/enrollmentrequests/r{how}"
    body = (await world.admin.patch(path, json=change, headers=MERGE)).json()
    assert body["spec"]["nodeName"] == "n"
    conditions = {c["type"]: c for c in body["status"]["conditions"]}
    assert conditions["Approved"]["status"] == "True"
    assert conditions["Approved"]["message"] == "by ada"
    assert conditions["Denied"]["status"] == "False"


async def test_approval_changes_nothing_but_the_answer(world: World) -> None:
    await world.create("EnrollmentRequest", "r", {"serial": "s", "deviceCertificate": world.pem})
    change = {"spec": {"approved": False, "serial": "t"}, "metadata": {"labels": {"a": "b"}}}
    path = f"{HERE}/enrollmentrequests/r/approval"
    body = (await world.admin.patch(path, json=change, headers=MERGE)).json()
    assert (body["spec"]["serial"], body["spec"]["approved"]) == ("s", False)
    assert "labels" not in body["metadata"]


async def test_a_mistyped_field_is_answered_with_the_right_one(world: World) -> None:
    node = manifest("EdgeNode", "n", {"seriel": "s"})
    url = f"{HERE}/edgenodes?dryRun=All&fieldValidation=Strict"
    body = refusal(await world.admin.post(url, json=node), 400)
    assert body["message"].endswith('unknown field "spec.seriel"; did you mean "serial"?')


async def test_a_field_too_long_to_be_mistyped_is_compared_with_none(world: World) -> None:
    node = manifest("EdgeNode", "n", {"serial" * 20_000: "s", "seriel": "s"})
    url = f"{HERE}/edgenodes?dryRun=All&fieldValidation=Strict"
    body = refusal(await world.admin.post(url, json=node), 400)
    assert body["message"].count("did you mean") == 1
