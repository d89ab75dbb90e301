"""Lists, their pages and forms; selectors."""

from __future__ import annotations

import pytest

from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.registry.selectors import parse_labels
from tests.parts.operators_api import BASE, HERE, Json, World, refusal

TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


async def names(world: World, query: str = "") -> list[str]:
    answer = await world.admin.get(f"{HERE}/edgenodes{query}")
    assert answer.status_code == 200, answer.text
    return [item["metadata"]["name"] for item in answer.json()["items"]]


async def nodes(world: World, count: int) -> None:
    for number in range(count):
        labels = {"odd": str(number % 2)}
        await world.create("EdgeNode", f"n{number}", {"serial": f"s{number}"}, labels=labels)


async def test_pages_together_are_the_whole_list(world: World) -> None:
    await nodes(world, 7)
    found: list[str] = []
    query = "?limit=3"
    versions = set()
    while query:
        page = (await world.admin.get(f"{HERE}/edgenodes{query}")).json()
        found += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue")
        query = f"?limit=3&continue={token}" if token else ""
        # What comes and goes meanwhile must not move the pages.
        await world.admin.delete(f"{HERE}/edgenodes/n0")
    assert found == [f"n{number}" for number in range(7)]
    assert len(versions) == 1


async def test_a_page_tells_how_many_follow(world: World) -> None:
    await nodes(world, 5)
    page = (await world.admin.get(f"{HERE}/edgenodes?limit=2")).json()
    assert page["metadata"]["remainingItemCount"] == 3
    page = (await world.admin.get(f"{HERE}/edgenodes?limit=1&labelSelector=odd=1")).json()
    assert "remainingItemCount" not in page["metadata"]
    page = (await world.admin.get(f"{HERE}/edgenodes?limit=5")).json()
    assert "continue" not in page["metadata"]
    refusal(await world.admin.get(f"{HERE}/edgenodes?continue=nonsense"), 400)
    refusal(await world.admin.get(f"{HERE}/edgenodes?limit=-1"), 400)


async def test_a_past_state_is_not_passed_off_as_the_present(world: World) -> None:
    await nodes(world, 1)
    version = (await world.admin.get(f"{HERE}/edgenodes")).json()["metadata"]["resourceVersion"]
    exact = f"{HERE}/edgenodes?resourceVersionMatch=Exact&resourceVersion={version}"
    assert (await world.admin.get(exact)).status_code == 200
    await world.create("EdgeNode", "later", {"serial": "x"})
    assert refusal(await world.admin.get(exact), 410)["reason"] == "Expired"


async def test_a_list_is_of_one_namespace_or_of_all(world: World) -> None:
    await nodes(world, 1)
    for name in ("default-2", "a"):
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await world.admin.post("/api/v1/namespaces", json=space)
        node = {
            "apiVersion": "edgevirt.io/v1alpha1",
            "kind": "EdgeNode",
            "metadata": {"name": "there"},
            "spec": {"serial": "s"},
        }
        await world.admin.post(f"{BASE}/namespaces/{name}/edgenodes", json=node)
    assert await names(world) == ["n0"]
    everywhere = (await world.admin.get(f"{BASE}/edgenodes")).json()
    found = [item["metadata"]["namespace"] for item in everywhere["items"]]
    assert found == ["a", "default-2", "default"]


async def test_lists_see_what_was_just_written(world: World) -> None:
    await nodes(world, 2)
    assert await names(world) == ["n0", "n1"]
    await world.admin.delete(f"{HERE}/edgenodes/n0")
    assert await names(world) == ["n1"]


@pytest.mark.parametrize(
    ("selector", "matching"),
    [
        ("", {"ab", "b", "none"}),
        ("a=1", {"ab"}),
        ("a==1,b=2", {"ab"}),
        ("a!=1", {"b", "none"}),
        ("b in (2, 3)", {"ab", "b"}),
        ("b notin (2,3)", {"none"}),
        ("b", {"ab", "b"}),
        ("!b", {"none"}),
        (" b , ! a ", {"b"}),
        ("a=", set()),
        ("b in (3),!a", {"b"}),
    ],
)
def test_label_selectors_mean_what_kubernetes_means(selector: str, matching: set[str]) -> None:
    objects: dict[str, dict[str, str]] = {"ab": {"a": "1", "b": "2"}, "b": {"b": "3"}, "none": {}}
    terms = parse_labels(selector)
    found = {name for name, labels in objects.items() if all(t.matches(labels) for t in terms)}
    assert found == matching


@pytest.mark.parametrize("selector", ["a=b=c", ",", "a,,b", "a in b", "a in (b", "=b", "a b"])
def test_a_broken_label_selector_is_refused(selector: str) -> None:
    with pytest.raises(ApiError, match="cannot read label selector"):
        parse_labels(selector)


async def test_field_selectors_know_the_kind_s_fields(world: World) -> None:
    await nodes(world, 3)
    assert await names(world, "?fieldSelector=metadata.name=n1") == ["n1"]
    assert await names(world, "?fieldSelector=spec.serial!=s1") == ["n0", "n2"]
    assert await names(world, "?fieldSelector=metadata.namespace=default,spec.serial=s2") == ["n2"]
    body = refusal(await world.admin.get(f"{HERE}/edgenodes?fieldSelector=spec.colour=x"), 400)
    assert (
        "supported for edgenodes: metadata.name, metadata.namespace, spec.serial"
        in (body["message"])
    )


async def test_a_table_has_columns_rows_and_metadata(world: World) -> None:
    await nodes(world, 2)
    await world.clock.advance(90)
    table = (await world.admin.get(f"{HERE}/edgenodes", headers=TABLE)).json()
    assert table["kind"] == "Table"
    assert table["columnDefinitions"][0]["format"] == "name"
    titles = [column["name"] for column in table["columnDefinitions"]]
    first: Json = dict(zip(titles, table["rows"][0]["cells"], strict=True))
    assert (first["Name"], first["Serial"], first["Age"]) == ("n0", "s0", "90s")
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    url = f"{HERE}/edgenodes/n1?includeObject="
    one = (await world.admin.get(f"{url}Object", headers=TABLE)).json()
    assert one["rows"][0]["object"]["spec"]["serial"] == "s1"
    bare = (await world.admin.get(f"{url}None", headers=TABLE)).json()
    assert "object" not in bare["rows"][0]
    refusal(await world.admin.get(f"{url}All", headers=TABLE), 400)


async def test_metadata_alone_and_yaml_can_be_asked_for(world: World) -> None:
    await nodes(world, 1)
    form = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    listed = (await world.admin.get(f"{HERE}/edgenodes", headers={"accept": form})).json()
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}
    answer = await world.admin.get(f"{HERE}/edgenodes/n0", headers={"accept": "application/yaml"})
    assert answer.headers["content-type"] == "application/yaml"
    assert "kind: EdgeNode" in answer.text


async def test_forms_that_are_not_served_are_passed_over_or_refused(world: World) -> None:
    await nodes(world, 1)
    for accept in (
        "application/vnd.kubernetes.protobuf,application/json",
        "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        "*/*",
        "",
    ):
        answer = await world.admin.get(f"{HERE}/edgenodes/n0", headers={"accept": accept})
        assert answer.json()["kind"] == "EdgeNode"
    only = {"accept": "application/vnd.kubernetes.protobuf"}
    refusal(await world.admin.get(f"{HERE}/edgenodes/n0", headers=only), 406)
