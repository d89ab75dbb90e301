"""Typed client of the fleet's operators' API: what the command line and the pages stand on.

The API follows Kubernetes' conventions, so objects are plain mappings here, as the server sent
them: a client that knows no field of a kind works with every kind.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

Object = dict[str, Any]
"""An API object as JSON: apiVersion, kind, metadata, spec, status."""

GROUP = "edgevirt.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
MANAGER = "edgevirt"
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class ClientError(Exception):
    """«cannot X: why», and a hint on what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Refused(ClientError):
    """The fleet answered with an error. `code` is HTTP's, `reason` Kubernetes' (`NotFound`…)."""

    def __init__(self, code: int, reason: str, why: str, hint: str = "") -> None:
        super().__init__(why, hint)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class ResourceType:
    """One kind as discovery tells it."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    api_version: str
    verbs: tuple[str, ...]

    @property
    def root(self) -> str:
        group = "/apis/" if "/" in self.api_version else "/api/"
        return group + self.api_version

    def answers_to(self, word: str) -> bool:
        word = word.lower().split(".", 1)[0]
        return word in {self.plural, self.singular, self.kind.lower(), *self.short_names}


@dataclass(frozen=True)
class Connection:
    """Where the fleet is and who we are: the current context of a kubeconfig."""

    server: str
    namespace: str
    ca: str
    token: str = ""
    certificate: str = ""
    key: str = ""


def kubeconfig_path(given: str | None = None) -> Path:
    """The file named on the command line, else $KUBECONFIG, else `~/.kube/config`."""
    return Path(given or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")


def load_connection(path: Path, context: str | None = None) -> Connection:
    """Raises ClientError when the file is missing, malformed or names what isn't there."""
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ClientError(
            f"cannot find the fleet: there is no kubeconfig at {path}",
            "set KUBECONFIG, or make one with `edgevirt fleet init`",
        ) from None
    except (OSError, yaml.YAMLError) as error:
        raise ClientError(f"cannot read the kubeconfig {path}: {error}") from None
    try:
        chosen = _named(config["contexts"], context or config["current-context"])["context"]
        cluster = _named(config["clusters"], chosen["cluster"])["cluster"]
        user = _named(config["users"], chosen["user"])["user"]
        return Connection(
            server=cluster["server"],
            namespace=chosen.get("namespace", "default"),
            ca=_material(cluster, "certificate-authority", path),
            token=user.get("token", ""),
            certificate=_material(user, "client-certificate", path),
            key=_material(user, "client-key", path),
        )
    except (KeyError, TypeError) as error:
        raise ClientError(f"cannot use the kubeconfig {path}: it lacks {error}") from None


def _named(entries: list[Object], name: str) -> Object:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _material(holder: Mapping[str, str], name: str, path: Path) -> str:
    """PEM text given in line (`NAME-data`, base64) or as a file beside the kubeconfig."""
    if inline := holder.get(f"{name}-data"):
        return base64.b64decode(inline).decode()
    if file := holder.get(name):
        return (path.parent / file).read_text()
    return ""


class Client:
    """One connection to a fleet. Every method raises Refused or ClientError."""

    def __init__(self, connection: Connection) -> None:
        self.namespace = connection.namespace
        self._types: list[ResourceType] | None = None
        headers = {"User-Agent": "edgevirt"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        self._http = httpx.Client(
            base_url=connection.server,
            verify=_tls_context(connection),
            headers=headers,
            timeout=TIMEOUT,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    # -- discovery --

    def types(self) -> list[ResourceType]:
        """Every kind that the fleet serves."""
        if self._types is None:
            roots = ("/api/v1", f"/apis/{API_VERSION}")
            self._types = [t for root in roots for t in self._types_of(root)]
        return self._types

    def _types_of(self, root: str) -> Iterator[ResourceType]:
        answer = self._json("GET", root)
        for entry in answer.get("resources", ()):
            if "/" in entry["name"]:
                continue
            yield ResourceType(
                kind=entry["kind"],
                plural=entry["name"],
                singular=entry.get("singularName") or entry["kind"].lower(),
                short_names=tuple(entry.get("shortNames") or ()),
                namespaced=entry["namespaced"],
                api_version=answer["groupVersion"],
                verbs=tuple(entry["verbs"]),
            )

    def type_of(self, word: str) -> ResourceType:
        """By kind, plural, singular or short name, as kubectl takes them."""
        for found in self.types():
            if found.answers_to(word):
                return found
        known = ", ".join(sorted(t.plural for t in self.types()))
        raise ClientError(f"cannot find a kind called {word!r}", f"the fleet has {known}")

    # -- objects --

    def path(
        self, type_: ResourceType, namespace: str | None, name: str = "", sub: str = ""
    ) -> str:
        """URL path of a collection (no name; namespace None: all projects) or of an object."""
        parts = [type_.root]
        if type_.namespaced and namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (type_.plural, name, sub) if part]
        return "/".join(parts)

    def get(self, type_: ResourceType, namespace: str | None, name: str) -> Object:
        return self._json("GET", self.path(type_, namespace, name))

    def list(
        self, type_: ResourceType, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> Object:
        query = _selectors(labels, fields)
        return self._json("GET", self.path(type_, namespace), params=query)

    def table(
        self,
        type_: ResourceType,
        namespace: str | None,
        name: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> Object:
        """A meta.k8s.io/v1 Table."""
        query = _selectors(labels, fields)
        path = self.path(type_, namespace, name)
        return self._json("GET", path, params=query, headers={"Accept": TABLE})

    def watch(
        self,
        type_: ResourceType,
        namespace: str | None,
        *,
        fields: str = "",
        labels: str = "",
        since: str = "",
        timeout: float | None = None,
    ) -> Iterator[Object]:
        """Watch events (`type`, `object`), until the server or `timeout` seconds end it."""
        query = {"watch": "1", **_selectors(labels, fields)}
        if since:
            query["resourceVersion"] = since
        if timeout is not None:
            query["timeoutSeconds"] = str(max(1, int(timeout)))
        limits = httpx.Timeout(timeout, connect=10.0) if timeout else httpx.Timeout(None)
        with self._stream(self.path(type_, namespace), query, limits) as response:
            try:
                for line in response.iter_lines():
                    if line:
                        yield json.loads(line)
            except httpx.ReadTimeout:
                return

    def create(self, type_: ResourceType, namespace: str | None, body: Object) -> Object:
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        return self._json("POST", self.path(type_, namespace), params=query, body=body)

    def apply(
        self,
        type_: ResourceType,
        namespace: str | None,
        body: Object,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        path = self.path(type_, namespace, body["metadata"]["name"])
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._json("PATCH", path, params=query, body=body, headers=headers)

    def replace(self, type_: ResourceType, namespace: str | None, body: Object) -> Object:
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        path = self.path(type_, namespace, body["metadata"]["name"])
        return self._json("PUT", path, params=query, body=body)

    def patch(
        self, type_: ResourceType, namespace: str | None, name: str, change: Any, *, style: str
    ) -> Object:
        """`style`: `merge` (RFC 7386) or `json` (RFC 6902)."""
        headers = {"Content-Type": f"application/{style}-patch+json"}
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        path = self.path(type_, namespace, name)
        return self._json("PATCH", path, params=query, body=change, headers=headers)

    def delete(self, type_: ResourceType, namespace: str | None, name: str) -> Object:
        return self._json("DELETE", self.path(type_, namespace, name))

    def read(self, path: str, **query: str) -> Object:
        """GET of any path of the API."""
        return self._json("GET", path, params=query)

    def lines(self, path: str, *, follow: bool, **query: str) -> Iterator[str]:
        """Lines of a text answer; with `follow` as they come, without end."""
        limits = httpx.Timeout(None, connect=10.0) if follow else TIMEOUT
        query |= {"follow": "true"} if follow else {}
        with self._stream(path, query, limits) as response:
            yield from response.iter_lines()

    # -- transport --

    def _json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        content = None if body is None else json.dumps(body).encode()
        try:
            response = self._http.request(
                method, path, params=params, content=content, headers=sent
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise _refusal(response)
        answer: Object = response.json()
        return answer

    def _stream(self, path: str, query: Mapping[str, str], limits: httpx.Timeout) -> _CheckedStream:
        return _CheckedStream(self, self._http.stream("GET", path, params=query, timeout=limits))

    def _unreachable(self, error: httpx.HTTPError) -> ClientError:
        return ClientError(
            f"cannot reach the fleet at {self._http.base_url}: {error}",
            "is it running, and is the kubeconfig its own?",
        )


class _CheckedStream:
    """A streamed response whose error status became an exception before the first line."""

    def __init__(self, client: Client, stream: Any) -> None:
        self._client = client
        self._stream = stream

    def __enter__(self) -> httpx.Response:
        try:
            response: httpx.Response = self._stream.__enter__()
        except httpx.HTTPError as error:
            raise self._client._unreachable(error) from None
        if response.is_error:
            response.read()
            self._stream.__exit__(None, None, None)
            raise _refusal(response)
        return response

    def __exit__(self, *what: object) -> None:
        self._stream.__exit__(*what)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in query.items() if value}


def _refusal(response: httpx.Response) -> Refused:
    try:
        status = response.json()
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    message = status.get("message") or f"the fleet answered {response.status_code}"
    hint = ""
    if response.status_code == 401:
        hint = "the kubeconfig's token or certificate isn't known to this fleet"
    elif response.status_code == 409 and status.get("reason") == "Conflict":
        hint = "somebody changed it meanwhile: read it again, then repeat"
    return Refused(response.status_code, status.get("reason", ""), message, hint)


def _tls_context(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=connection.ca or None)
    if connection.certificate:
        # OpenSSL takes a client key from a file only: a private one, gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(connection.certificate + "\n" + connection.key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context
