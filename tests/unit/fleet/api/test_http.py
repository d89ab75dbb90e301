"""The API as HTTP: who comes in, what bodies and methods it takes, what it tells of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgevirt.fleet.api.bodies import bodies
from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.shapes import openapi
from edgevirt.fleet.objects.kinds import SERVED
from tests.parts.operators_api import BASE, HERE, MERGE, Json, World, manifest, refusal

YAML = {"content-type": "application/yaml"}
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


# -- who comes in --


@pytest.mark.parametrize(
    "path",
    ["/api", "/apis", "/openapi/v2", "/openapi/v3", f"{HERE}/edgenodes", f"{BASE}/edgenodes/x"],
)
async def test_nobody_comes_in_unknown(world: World, path: str) -> None:
    answer = await world.stranger.get(path)
    if answer.status_code != 404:
        assert refusal(answer, 401)["reason"] == "Unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    headers = {"authorization": "Bearer nonsense"}
    assert (await world.stranger.get("/api", headers=headers)).status_code == 401


async def test_health_and_version_are_open(world: World) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await world.stranger.get(path)).text == "ok"
    assert (await world.stranger.get("/version")).json()["major"] == "1"


async def test_nobody_acts_as_another(world: World) -> None:
    headers = {"impersonate-user": "vic"}
    body = refusal(await world.admin.get(f"{HERE}/edgenodes", headers=headers), 403)
    assert "impersonation is not served" in body["message"]


async def test_a_viewer_reads_but_no_secrets_and_writes_nothing(world: World) -> None:
    await world.create("EdgeNode", "n", {"serial": "s"})
    assert (await world.viewer.get(f"{HERE}/edgenodes/n")).status_code == 200
    secrets = "/api/v1/namespaces/default/secrets"
    for answer in (
        await world.viewer.get(secrets),
        await world.viewer.get(f"{secrets}?watch=1"),
        await world.viewer.get("/api/v1/secrets"),
        await world.viewer.post(f"{HERE}/edgenodes", json=manifest("EdgeNode", "m", {})),
        await world.viewer.patch(f"{HERE}/edgenodes/n", json={}, headers=MERGE),
        await world.viewer.patch(f"{HERE}/edgenodes/n/status", json={}, headers=MERGE),
        await world.viewer.delete(f"{HERE}/edgenodes/n"),
        await world.viewer.delete(f"{HERE}/edgenodes"),
    ):
        assert 'User "vic" cannot' in refusal(answer, 403)["message"]


async def test_a_member_stays_in_the_project(world: World) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "berlin"}}
    await world.admin.post("/api/v1/namespaces", json=space)
    there = f"{BASE}/namespaces/berlin/edgenodes"
    node = manifest("EdgeNode", "n", {"serial": "s"})
    assert (await world.member.post(there, json=node)).status_code == 201
    assert (await world.member.get("/api/v1/namespaces/berlin")).status_code == 200
    refusal(await world.member.delete("/api/v1/namespaces/berlin"), 403)
    refusal(await world.member.get(f"{HERE}/edgenodes"), 403)
    refusal(await world.member.get(f"{BASE}/edgenodes"), 403)
    refusal(await world.member.get("/api/v1/namespaces"), 403)


async def test_reviews_answer_as_the_api_would(world: World) -> None:
    def review(**attributes: str) -> Json:
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }

    wanted = review(verb="delete", group="edgevirt.io", resource="apps", namespace="default")
    assert (await world.admin.post(REVIEW, json=wanted)).json()["status"] == {"allowed": True}
    status = (await world.viewer.post(REVIEW, json=wanted)).json()["status"]
    assert status["allowed"] is False
    assert 'cannot delete resource "apps" in API group "edgevirt.io"' in status["reason"]
    refusal(await world.admin.post(REVIEW, json={**wanted, "kind": "Other"}), 400)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    info = (await world.viewer.post(path, json=body)).json()["status"]["userInfo"]
    assert info == {"username": "vic", "groups": ["edgevirt:viewers", "system:authenticated"]}


# -- paths, methods, bodies --


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/nowhere", "GET", 404),
        (f"{BASE}/unicorns", "GET", 404),
        ("/apis/edgevirt.io/v9", "GET", 404),
        ("/apis/other.io", "GET", 404),
        ("/openapi/v3/apis/other.io/v1", "GET", 404),
        (f"{HERE}/edgenodes/", "GET", 404),
        (f"{HERE}/edgenodes", "PUT", 405),
        (f"{HERE}/edgenodes/x", "POST", 405),
        (f"{BASE}/edgenodes", "POST", 405),
        ("/healthz", "POST", 405),
    ],
)
async def test_unknown_paths_and_methods_are_told_as_status(
    world: World, path: str, method: str, code: int
) -> None:
    refusal(await world.admin.request(method, path), code)


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        ("", {"content-type": "application/json"}, 400),
        ("{", {"content-type": "application/json"}, 400),
        ("[]", {"content-type": "application/json"}, 400),
        ("7", {"content-type": "application/json"}, 400),
        ('{"a":"\\ud800"}', {"content-type": "application/json"}, 400),
        ("[" * 100_000, {"content-type": "application/json"}, 400),
        ('{"a":' * 70 + "1" + "}" * 70, {"content-type": "application/json"}, 400),
        ('{"a":1e999}', {"content-type": "application/json"}, 400),
        ("a: &x [1]\nb: *x", YAML, 400),
        ("a: !!python/object:os.system {}", YAML, 400),
        ("1: 2", YAML, 400),
        ("a: 1\n---\nb: 2", YAML, 400),
        ("a: .inf", YAML, 400),
        ("[" * 5000, YAML, 400),
        ("a: [", YAML, 400),
        ("{}", {"content-type": "text/plain"}, 415),
        ("{}", {}, 400),
        ("k8s\0garbage", {"content-type": "application/vnd.kubernetes.protobuf"}, 400),
        ("none", {"content-type": "application/vnd.kubernetes.protobuf"}, 400),
        ("x" * (bodies.MAX_BYTES + 1), {"content-type": "application/json"}, 413),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_bodies_that_cannot_be_taken_are_refused(
    world: World, content: str, headers: dict[str, str], code: int
) -> None:
    answer = await world.admin.post(f"{HERE}/edgenodes", content=content, headers=headers)
    refusal(answer, code)


async def test_a_long_body_without_a_length_is_refused(world: World) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100_000

    headers = {"content-type": "application/json"}
    answer = await world.admin.post(f"{HERE}/edgenodes", content=endless(), headers=headers)
    refusal(answer, 413)


async def test_yaml_bodies_are_taken_and_dates_stay_text(world: World) -> None:
    content = """
        apiVersion: edgevirt.io/v1alpha1
        kind: EdgeNode
        metadata: {name: n}
        spec:
          serial: s
          properties: {built: "x", day: 2026-01-31}
    """
    answer = await world.admin.post(f"{HERE}/edgenodes", content=content, headers=YAML)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["properties"]["day"] == "2026-01-31"


def test_integers_beyond_64_bits_are_refused() -> None:
    from edgevirt.fleet.api.shapes.checking import check
    from edgevirt.fleet.api.shapes.shapes import shape_of
    from edgevirt.fleet.objects.node.edgenode import EdgeNodeSpec

    checked = check({"rebootCounter": 2**63}, shape_of(EdgeNodeSpec))
    assert [problem.field for problem in checked.problems] == ["rebootCounter"]


def test_many_problems_are_cut_short() -> None:
    from edgevirt.fleet.api.shapes.checking import check
    from edgevirt.fleet.api.shapes.shapes import shape_of
    from edgevirt.fleet.objects.app.app import AppSpec

    checked = check({"command": [1] * 10_000}, shape_of(AppSpec))
    assert len(checked.problems) == 50


def test_yaml_with_too_many_values_is_refused_before_it_is_built() -> None:
    with pytest.raises(ApiError, match="too long"):
        bodies.parse_yaml(b"[" + b"1," * bodies.MAX_NODES + b"1]")


# -- what it tells of itself --


async def test_every_kind_is_discovered_and_answers(world: World) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    seen = set()
    for path in ("/api", "/apis"):
        answer = await world.admin.get(path, headers={"accept": f"{accept},application/json"})
        assert answer.headers["content-type"] == accept
        for item in answer.json()["items"]:
            group = item["metadata"]["name"]
            for version in item["versions"]:
                seen |= {(group, version["version"], r["resource"]) for r in version["resources"]}
    assert seen >= {(kind.group, kind.version, kind.plural) for kind in SERVED}
    for kind in SERVED:
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        listed = (await world.admin.get(f"{root}/{kind.plural}")).json()
        assert listed["kind"] == f"{kind.name}List"
        legacy = (await world.admin.get(root)).json()
        assert kind.plural in [resource["name"] for resource in legacy["resources"]]


async def test_further_subresources_are_discovered_and_guarded(world: World) -> None:
    await world.hello()
    await world.create("AppInstance", "i", {"app": "hello", "edgeNode": "node"})
    path = f"{HERE}/appinstances/i/log"
    assert (await world.viewer.get(path)).text == "log of i\n"
    refusal(await world.member.get(path), 403)
    refusal(await world.admin.get(f"{HERE}/appinstances/none/log"), 404)
    listed = (await world.admin.get(BASE)).json()["resources"]
    assert "appinstances/log" in [resource["name"] for resource in listed]


async def test_openapi_describes_every_field_and_links_only_to_what_it_has(world: World) -> None:
    index = (await world.admin.get("/openapi/v3")).json()["paths"]
    for root in openapi.group_versions():
        answer = await world.admin.get(index[root]["serverRelativeURL"])
        document = answer.json()
        schemas = document["components"]["schemas"]
        for reference in _references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas
        for name, schema in schemas.items():
            for field, described in schema["properties"].items():
                assert described["description"], f"{name}.{field}"
    version = json.loads(openapi.document("apis/edgevirt.io/v1alpha1", "1") or b"{}")
    patch = version["paths"][f"{BASE}/namespaces/{{namespace}}/edgenodes/{{name}}"]["patch"]
    names = {parameter["name"] for parameter in patch["parameters"]}
    assert names == {"dryRun", "fieldManager", "fieldValidation", "force"}


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for inner in value.values() for ref in _references(inner)]
    if isinstance(value, list):
        return [ref for inner in value for ref in _references(inner)]
    return []


async def test_writes_are_logged_with_their_author(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="edgevirt.fleet.api"):
        await world.create("EdgeNode", "n", {"serial": "s"})
        await world.viewer.get(f"{HERE}/edgenodes/n")
        await world.admin.delete(f"{HERE}/edgenodes/n")
    assert [record.getMessage() for record in caplog.records] == [
        "ada create edgenodes default: 201",
        "ada delete edgenodes default/n: 200",
    ]
