"""Server-side apply: who owns which field, and what happens to it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import yaml

from tests.parts.operators_api import HERE, MERGE, Json, World, manifest, refusal

APPLY = {"content-type": "application/apply-patch+yaml"}
PATH = f"{HERE}/edgenodes/n"


def node(spec: Json, **meta: Any) -> Json:
    return manifest("EdgeNode", "n", spec, **meta)


async def apply(
    world: World, body: Json, manager: str = "ada", force: bool = False
) -> httpx.Response:
    url = f"{PATH}?fieldManager={manager}" + ("&force=true" if force else "")
    return await world.admin.patch(url, content=yaml.safe_dump(body), headers=APPLY)


def managers(body: Json) -> dict[tuple[str, str], Json]:
    return {(m["manager"], m["operation"]): m for m in body["metadata"]["managedFields"]}


async def test_applying_makes_what_is_not_there(world: World) -> None:
    first = await apply(world, node({"serial": "s"}))
    assert first.status_code == 201
    assert managers(first.json())[("ada", "Apply")]["fieldsV1"] == {"f:spec": {"f:serial": {}}}
    again = await apply(world, node({"serial": "s"}))
    assert again.status_code == 200
    assert again.json() == first.json()


async def test_a_manager_s_dropped_field_goes_back_to_its_default(world: World) -> None:
    await apply(world, node({"serial": "s", "activate": False, "properties": {"a": "1"}}))
    body = (await apply(world, node({"serial": "s"}))).json()
    assert body["spec"]["activate"] is True
    assert "properties" not in body["spec"]


async def test_fields_of_others_stay(world: World) -> None:
    await apply(world, node({"serial": "s", "properties": {"a": "1", "b": "2"}}))
    await apply(world, node({"properties": {"b": "2", "c": "3"}}), "ben")
    body = (await apply(world, node({"serial": "s"}))).json()
    assert body["spec"]["properties"] == {"b": "2", "c": "3"}


async def test_another_s_value_is_a_conflict_unless_forced(world: World) -> None:
    await apply(world, node({"serial": "s", "properties": {"a": "1"}}))
    refused = await apply(world, node({"properties": {"a": "2"}}), "ben")
    body = refusal(refused, 409)
    assert body["message"] == (
        'Apply failed with 1 conflict: conflict with "ada" using edgevirt.io/v1alpha1: '
        ".spec.properties.a"
    )
    assert body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "ada" using edgevirt.io/v1alpha1',
            "field": ".spec.properties.a",
        }
    ]
    forced = (await apply(world, node({"properties": {"a": "2"}}), "ben", force=True)).json()
    assert forced["spec"]["properties"] == {"a": "2"}
    assert managers(forced)[("ada", "Apply")]["fieldsV1"] == {"f:spec": {"f:serial": {}}}


async def test_the_same_value_is_shared_without_conflict(world: World) -> None:
    await apply(world, node({"serial": "s"}))
    body = (await apply(world, node({"serial": "s"}), "ben")).json()
    assert set(managers(body)) == {("ada", "Apply"), ("ben", "Apply")}
    gone = await apply(world, node({"activate": True}))
    assert gone.json()["spec"]["serial"] == "s"


async def test_an_update_takes_fields_from_those_who_applied_them(world: World) -> None:
    await apply(world, node({"serial": "s", "properties": {"a": "1"}}))
    change = {"spec": {"properties": {"a": "2"}}}
    url = f"{PATH}?fieldManager=ben"
    body = (await world.admin.patch(url, json=change, headers=MERGE)).json()
    assert managers(body)[("ada", "Apply")]["fieldsV1"] == {"f:spec": {"f:serial": {}}}
    assert managers(body)[("ben", "Update")]["fieldsV1"] == {
        "f:spec": {"f:properties": {"f:a": {}}}
    }
    refusal(await apply(world, node({"serial": "s", "properties": {"a": "1"}})), 409)


async def test_elements_of_a_list_have_owners_of_their_own(world: World) -> None:
    one = {"name": "eth0", "cost": 1}
    two = {"name": "eth1", "cost": 2}
    await apply(world, node({"serial": "s", "ports": [one]}))
    body = (await apply(world, node({"ports": [two]}), "ben")).json()
    assert [port["name"] for port in body["spec"]["ports"]] == ["eth0", "eth1"]
    fields = managers(body)[("ben", "Apply")]["fieldsV1"]["f:spec"]["f:ports"]
    assert fields == {'k:{"name":"eth1"}': {".": {}, "f:cost": {}, "f:name": {}}}
    refused = await apply(world, node({"ports": [{"name": "eth0", "cost": 7}]}), "ben")
    message = refusal(refused, 409)["message"]
    assert '.spec.ports[name="eth0"].cost' in message
    body = (await apply(world, node({"serial": "s"}))).json()
    assert [port["name"] for port in body["spec"]["ports"]] == ["eth1"]


async def test_an_element_that_another_still_uses_stays_with_its_fields(world: World) -> None:
    await apply(world, node({"serial": "s", "ports": [{"name": "eth0", "cost": 1}]}))
    await apply(world, node({"ports": [{"name": "eth0", "interface": "ens1"}]}), "ben")
    body = (await apply(world, node({"serial": "s"}))).json()
    (port,) = body["spec"]["ports"]
    assert (port["name"], port["interface"], port["cost"]) == ("eth0", "ens1", 0)


async def test_finalizers_are_a_set(world: World) -> None:
    await apply(world, node({"serial": "s"}, finalizers=["a.io/a"]))
    body = (await apply(world, node({}, finalizers=["b.io/b"]), "ben")).json()
    assert body["metadata"]["finalizers"] == ["a.io/a", "b.io/b"]
    body = (await apply(world, node({"serial": "s"}))).json()
    assert body["metadata"]["finalizers"] == ["b.io/b"]


async def test_status_is_applied_by_itself(world: World) -> None:
    await apply(world, node({"serial": "s"}))
    status = {**node({}), "status": {"phase": "Online"}}
    del status["spec"]
    url = f"{PATH}/status?fieldManager=fleet"
    body = (await world.admin.patch(url, content=json.dumps(status), headers=APPLY)).json()
    assert (body["spec"]["serial"], body["status"]["phase"]) == ("s", "Online")
    entry = managers(body)[("fleet", "Apply")]
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"] == {"f:status": {"f:phase": {}}}
    main = await apply(world, {**node({"serial": "s"}), "status": {"phase": "Offline"}})
    assert main.json()["status"]["phase"] == "Online"


async def test_apply_needs_a_manager_and_no_managed_fields(world: World) -> None:
    content = yaml.safe_dump(node({"serial": "s"}))
    refused = await world.admin.patch(PATH, content=content, headers=APPLY)
    assert "fieldManager is required" in refusal(refused, 400)["message"]
    managed = node({"serial": "s"}, managedFields=[{"manager": "x"}])
    refusal(await apply(world, managed), 400)


async def test_managed_fields_can_be_cleared_but_not_by_leaving_them_out(world: World) -> None:
    body = (await apply(world, node({"serial": "s"}))).json()
    del body["metadata"]["managedFields"]
    kept = (await world.admin.put(PATH, json=body)).json()
    assert managers(kept)
    kept["metadata"]["managedFields"] = [{}]
    cleared = (await world.admin.put(PATH, json=kept)).json()
    assert "managedFields" not in cleared["metadata"]


async def test_many_updaters_do_not_fill_the_object(world: World) -> None:
    await apply(world, node({"serial": "s"}))
    for number in range(30):
        change = {"metadata": {"labels": {f"l{number}": "x"}}}
        url = f"{PATH}?fieldManager=m{number}"
        await world.admin.patch(url, json=change, headers=MERGE)
        await world.clock.advance(1)
    body = (await world.admin.get(PATH)).json()
    names = [entry["manager"] for entry in body["metadata"]["managedFields"]]
    assert len(names) == 11
    assert "ancient-changes" in names
    assert ("ada", "Apply") in managers(body)


async def test_a_dry_run_tells_conflicts_and_keeps_nothing(world: World) -> None:
    await apply(world, node({"serial": "s"}))
    url = f"{PATH}?fieldManager=ben&dryRun=All"
    content = yaml.safe_dump(node({"serial": "t"}))
    refusal(await world.admin.patch(url, content=content, headers=APPLY), 409)
    forced = await world.admin.patch(f"{url}&force=true", content=content, headers=APPLY)
    assert forced.json()["spec"]["serial"] == "t"
    assert (await world.admin.get(PATH)).json()["spec"]["serial"] == "s"
