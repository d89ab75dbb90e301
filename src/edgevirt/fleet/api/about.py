"""What the API tells clients of itself: its version, what it serves, the shapes of its kinds."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response

from edgevirt import __version__
from edgevirt.fleet.api import discovery, errors, presenting
from edgevirt.fleet.api.presenting import Form, accepted_by, respond
from edgevirt.fleet.api.shapes import openapi


async def tell_version(request: Request) -> Response:
    # What kubectl compares with itself is Kubernetes' version, whose API this follows.
    body = {
        "major": "1",
        "minor": "37",
        "gitVersion": f"v1.37.0+edgevirt.{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{platform.machine()}",
    }
    return respond(body, accepted_by(request))


class About:
    """`served`: what clients may know of."""

    def __init__(self, served: tuple[discovery.Served, ...]) -> None:
        self._served = served

    def answers(self) -> Iterator[tuple[str, Callable[[Request], Response]]]:
        """By path; for any user."""
        yield "/api", self._api
        yield "/apis", self._apis
        yield "/api/{version}", self._resources
        yield "/apis/{group}", self._group
        yield "/apis/{group}/{version}", self._resources
        yield "/openapi/v2", _openapi_v2
        yield "/openapi/v3", _openapi_index
        yield "/openapi/v3/{root:path}", _openapi

    def _api(self, request: Request) -> Response:
        return self._discovered(request, discovery.api_versions(request.url.netloc), core=True)

    def _apis(self, request: Request) -> Response:
        return self._discovered(request, discovery.api_groups(self._served), core=False)

    def _discovered(self, request: Request, legacy: errors.Json, *, core: bool) -> Response:
        accepted = accepted_by(request)
        if accepted.form is not Form.DISCOVERY:
            return respond(legacy, accepted)
        version = accepted.version
        body = discovery.aggregated(self._served, core=core, version=version)
        response = respond(body, accepted)
        response.headers["content-type"] = (
            f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        )
        return response

    def _group(self, request: Request) -> Response:
        found = discovery.api_group(request.path_params["group"], self._served)
        if found is None:
            raise errors.unknown_path()
        return respond(found, accepted_by(request))

    def _resources(self, request: Request) -> Response:
        group = request.path_params.get("group", "")
        found = discovery.api_resources(group, request.path_params["version"], self._served)
        if found is None:
            raise errors.unknown_path()
        return respond(found, accepted_by(request))


def _openapi_v2(_request: Request) -> Response:
    return presenting.respond(openapi.document_v2(__version__), presenting.Accepted())


def _openapi_index(_request: Request) -> Response:
    return presenting.respond(openapi.index(__version__), presenting.Accepted())


def _openapi(request: Request) -> Response:
    content = openapi.document(request.path_params["root"], __version__)
    if content is None:
        raise errors.unknown_path()
    # The index names each document by its content.
    kept = "private, max-age=86400, immutable" if "hash" in request.query_params else "no-cache"
    headers = {"cache-control": kept}
    return Response(content, media_type="application/json", headers=headers)
