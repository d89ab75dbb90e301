"""What is made again under its name is what the node has kept of it, and nothing else is."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.node.held_config import HeldConfig, KeptOnNode
from edgevirt.fleet.render.nouns import derive
from tests.parts.operators_api import HERE, World, manifest

UID = "0b8f3f1c-5f0e-4c42-9d5c-6f2f4f1b9a11"
INSTANCE = {"app": "hello", "edgeNode": "node"}
VOLUME = {"edgeNode": "node", "size": "1Gi"}


async def held(world: World, **kept: Any) -> None:
    """An EdgeNode that has more than this fleet knows."""
    await world.hello()
    found = await world.store.get(kinds.EDGE_NODE, "default/node")
    assert found is not None
    status = replace(found.value.status, held_config=HeldConfig(mark="7.x", **kept))
    await world.store.put(kinds.EDGE_NODE, "default/node", replace(found.value, status=status))


def kept(name: str, id: str = UID) -> tuple[KeptOnNode, ...]:
    return (KeptOnNode(name=name, id=id),)


async def make(world: World, kind: str, name: str, spec: dict[str, Any]) -> httpx.Response:
    plural = kinds.BY_NAME[kind].plural
    response = await world.admin.post(f"{HERE}/{plural}", json=manifest(kind, name, spec))
    assert response.status_code == 201, response.text
    return response


def uid_of(response: httpx.Response) -> str:
    return str(response.json()["metadata"]["uid"])


async def test_an_instance_takes_up_the_app_of_its_name_and_says_so(world: World) -> None:
    await held(world, apps=kept("web"))
    response = await make(world, "AppInstance", "web", INSTANCE)
    assert uid_of(response) == UID
    assert "takes up what EdgeNode" in response.headers["warning"]


async def test_a_volume_takes_up_the_volume_of_its_name(world: World) -> None:
    await held(world, apps=kept("data", str(uuid.uuid4())), volumes=kept("data"))
    assert uid_of(await make(world, "Volume", "other", VOLUME)) != UID
    assert uid_of(await make(world, "Volume", "data", VOLUME)) == UID


@pytest.mark.parametrize("id", [derive(UID, "volume/data"), "", "../../x", UID.upper()])
async def test_what_is_no_uid_of_an_object_is_not_taken_up(world: World, id: str) -> None:
    await held(world, volumes=kept("data", id))
    assert uid_of(await make(world, "Volume", "data", VOLUME)) != id


async def test_a_node_cannot_give_one_object_the_uid_of_another(world: World) -> None:
    await held(world)
    taken = uid_of(await make(world, "Volume", "first", VOLUME))
    found = await world.store.get(kinds.EDGE_NODE, "default/node")
    assert found is not None
    claims = HeldConfig(mark="7.x", volumes=kept("second", taken))
    status = replace(found.value.status, held_config=claims)
    await world.store.put(kinds.EDGE_NODE, "default/node", replace(found.value, status=status))
    assert uid_of(await make(world, "Volume", "second", VOLUME)) != taken


async def test_once_the_config_goes_nothing_is_taken_up_any_more(world: World) -> None:
    await world.hello()
    assert uid_of(await make(world, "AppInstance", "web", INSTANCE)) != UID
