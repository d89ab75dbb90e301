"""The operators' API over a memory store, in this process, with a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edgevirt.fleet.api import Subresource, create_app
from edgevirt.fleet.api.app import Api
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.kinds import BY_NAME
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.roles import ADMINS, PROJECT, VIEWERS, User
from edgevirt.runtime import Kind, Resource, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire.certificates import Issuer, Validity, make_root

Json = dict[str, Any]
T = TypeVar("T")
BASE = "/apis/edgevirt.io/v1alpha1"
HERE = f"{BASE}/namespaces/default"


MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}


def refusal(response: httpx.Response, code: int) -> Json:
    """The Status that a refused request was answered with."""
    assert response.status_code == code, response.text
    body: Json = response.json()
    assert body["kind"] == "Status"
    assert body["status"] == "Failure"
    assert body["code"] == code
    return body


def authority(clock: VirtualClock) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.fromtimestamp(clock.now(), UTC)
    validity = Validity(now - timedelta(days=1), now + timedelta(days=3650))
    return Issuer(make_root("people", key, validity), key)


class BusyStore(MemoryStore):
    """Lets another writer in just before a write, once."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().put(kind, key, value, expect=expect)


@dataclass
class World:
    """One API, and clients of three users."""

    app: Starlette
    store: BusyStore
    clock: VirtualClock
    issuer: Issuer
    admin: httpx.AsyncClient
    viewer: httpx.AsyncClient
    member: httpx.AsyncClient
    """Of the project `berlin`."""
    stranger: httpx.AsyncClient

    @property
    def api(self) -> Api:
        api: Api = self.app.state.api
        return api

    @property
    def pem(self) -> str:
        """Some certificate."""
        return self.issuer.certificate.public_bytes(serialization.Encoding.PEM).decode()

    async def create(self, kind: str, name: str, spec: Json, **meta: Any) -> Json:
        """Makes an object in `default`; must succeed."""
        plural = BY_NAME[kind].plural
        response = await self.admin.post(
            f"{HERE}/{plural}", json=manifest(kind, name, spec, **meta)
        )
        assert response.status_code == 201, response.text
        body: Json = response.json()
        return body

    async def hello(self) -> None:
        """A node, and an app that can run on it."""
        await self.create("EdgeNode", "node", {"serial": "s1"})
        spec: Json = {"type": "OCIRegistry", "url": "docker://registry:5000"}
        await self.create("Datastore", "registry", spec)
        spec = {"datastoreRefs": [{"name": "registry"}], "reference": "hello:1"}
        await self.create("Image", "hello", spec)
        await self.create("NetworkInstance", "apps", {"subnet": "10.1.0.0/24"})
        await self.create("App", "hello", APP)


APP: Json = {
    "image": "hello",
    "interfaces": [
        {
            "name": "eth0",
            "networkInstance": "apps",
            "ports": [{"nodePort": 8080, "appPort": 80}],
        }
    ],
}


def manifest(kind: str, name: str, spec: Json, **meta: Any) -> Json:
    return {
        "apiVersion": "edgevirt.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **meta},
        "spec": spec,
    }


async def _log(request: Request, value: ApiObject) -> Response:
    return PlainTextResponse(f"log of {value.metadata.name}\n")


@asynccontextmanager
async def open_world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    store = BusyStore(history=1000)
    issuer = authority(clock)
    tokens = Tokens(tmp_path / "tokens.json")
    app = create_app(
        store,
        Doors(tokens, issuer.certificate, clock),
        clock,
        Sealer(bytes(32)),
        extra=[Subresource("AppInstance", "log", _log)],
    )
    await app.state.api.start()

    def client(user: User | None) -> httpx.AsyncClient:
        headers = {"user-agent": "tester/1"}
        if user is not None:
            headers["authorization"] = f"Bearer {tokens.add(user)}"
        transport = httpx.ASGITransport(app)
        return httpx.AsyncClient(transport=transport, base_url="https://fleet", headers=headers)

    yield World(
        app=app,
        store=store,
        clock=clock,
        issuer=issuer,
        admin=client(User("ada", (ADMINS,))),
        viewer=client(User("vic", (VIEWERS,))),
        member=client(User("ben", (f"{PROJECT}berlin",))),
        stranger=client(None),
    )
    await store.close()
