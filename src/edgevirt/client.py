"""Typed client of the fleet's operators' API: what the command line and the pages stand on.

The API follows Kubernetes' conventions, so objects are plain mappings here, as the server sent
them: a client that knows no field of a kind works with every kind.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import ssl
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import yaml

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

Object = dict[str, Any]
"""An API object as JSON: apiVersion, kind, metadata, spec, status."""

GROUP = "edgevirt.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
MANAGER = "edgevirt"
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
WATCH_SILENCE: Final = 150.0
"""Seconds without a word after which a watch is dead: the fleet sends a bookmark each minute."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_WARNING: Final = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


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

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be called by."""
        return (self.plural, self.singular, self.kind.lower(), *self.short_names)

    def answers_to(self, word: str) -> bool:
        """`edgenodes`, `EdgeNode`, `en`, `edgenodes.edgevirt.io`."""
        name, _, group = word.lower().partition(".")
        own = self.api_version.rpartition("/")[0]
        return name in self.words and (not group or own == group or group.endswith(f".{own}"))


# -- where the fleet is --


@dataclass(frozen=True)
class Connection:
    """Where the fleet is and who we are: one context of a kubeconfig."""

    server: str
    namespace: str
    ca: str
    token: str = ""
    certificate: str = ""
    key: str = ""


def kubeconfig_paths(given: str | None = None) -> tuple[Path, ...]:
    """The file named on the command line, else those of $KUBECONFIG, else `~/.kube/config`."""
    if given:
        return (Path(given),)
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return tuple(named) or (Path.home() / ".kube" / "config",)


def load_connection(*paths: Path, context: str | None = None) -> Connection:
    """From one kubeconfig, or several of which the first to name a thing has the word, as kubectl
    reads them. Raises ClientError when none is there, or they don't say how to connect."""
    entries = _read_kubeconfigs(paths)
    where = os.pathsep.join(map(str, paths))
    name = context or entries.current
    if not name:
        raise ClientError(
            f"cannot use the kubeconfig {where}: it names no current context",
            "choose one with --context",
        )
    chosen = _entry(entries.contexts, "context", name, where)
    cluster = _entry(entries.clusters, "cluster", chosen.get("cluster", ""), where)
    user = _entry(entries.users, "user", chosen.get("user", ""), where)
    server = str(cluster.get("server", ""))
    if not server.startswith("https://"):
        raise ClientError(
            f"cannot use the kubeconfig {where}: its server {server!r} is no https:// address"
        )
    return Connection(
        server=server,
        namespace=chosen.get("namespace") or "default",
        ca=_material(cluster, "certificate-authority", where),
        token=user.get("token", "") or _material(user, "tokenFile", where).strip(),
        certificate=_material(user, "client-certificate", where),
        key=_material(user, "client-key", where),
    )


@dataclass
class _Entries:
    """What kubeconfigs name, by name."""

    contexts: dict[str, Object]
    clusters: dict[str, Object]
    users: dict[str, Object]
    current: str = ""


_FILES: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _read_kubeconfigs(paths: tuple[Path, ...]) -> _Entries:
    found = _Entries({}, {}, {})
    there = [path for path in paths if path.exists()]
    if not there:
        listed = " or ".join(map(str, paths))
        raise ClientError(
            f"cannot find the fleet: there is no kubeconfig at {listed}",
            "set KUBECONFIG, or make one with `edgevirt fleet init`",
        )
    for path in there:
        try:
            config = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ClientError(f"cannot read the kubeconfig {path}: {_first_line(error)}") from None
        try:
            _add_entries(found, config, path.parent)
        except (KeyError, TypeError, AttributeError):
            raise ClientError(f"cannot use {path}: it is no kubeconfig") from None
    return found


def _add_entries(found: _Entries, config: Object, directory: Path) -> None:
    found.current = found.current or config.get("current-context") or ""
    for held, plural, singular in (
        (found.contexts, "contexts", "context"),
        (found.clusters, "clusters", "cluster"),
        (found.users, "users", "user"),
    ):
        for entry in config.get(plural) or ():
            body = dict(entry[singular])
            for name in _FILES:
                if body.get(name):
                    body[name] = str(directory / body[name])
            held.setdefault(entry["name"], body)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _entry(entries: Mapping[str, Object], what: str, name: str, where: str) -> Object:
    if name in entries:
        return entries[name]
    known = ", ".join(entries) or "none"
    raise ClientError(
        f"cannot use the kubeconfig {where}: it has no {what} {name!r}", f"it has {known}"
    )


def _material(holder: Mapping[str, str], name: str, where: str) -> str:
    """Text given in line (`NAME-data`, base64) or as a file."""
    try:
        if inline := holder.get(f"{name}-data"):
            return base64.b64decode(inline, validate=True).decode()
        if file := holder.get(name):
            return Path(file).read_text()
    except (OSError, binascii.Error, UnicodeDecodeError) as error:
        raise ClientError(f"cannot use the kubeconfig {where}: its {name}: {error}") from None
    return ""


# -- the client --


class Client:
    """One connection to a fleet. Every method raises Refused or ClientError."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`warn` hears what the fleet says beside its answers."""
        self.namespace = connection.namespace
        self._types: list[ResourceType] | None = None
        self._warn = warn
        self._timeout = timeout
        headers = {"User-Agent": "edgevirt"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        self._headers = headers
        self._tls = _tls_context(connection)
        self._http = httpx.Client(
            base_url=connection.server,
            verify=self._tls,
            headers=headers,
            timeout=timeout,
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
            parts.append(f"namespaces/{_segment(namespace)}")
        parts += [part for part in (type_.plural, _segment(name) if name else "", sub) if part]
        return "/".join(parts)

    def object_path(
        self, type_: ResourceType, namespace: str | None, name: str, sub: str = ""
    ) -> str:
        """As `path`, of one object. An empty name is refused: without it the path would be that of
        all objects."""
        return f"{self.path(type_, namespace)}/{_segment(name)}" + (f"/{sub}" if sub else "")

    def get(self, type_: ResourceType, namespace: str | None, name: str) -> Object:
        return self._json("GET", self.object_path(type_, namespace, name))

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
        limit: int = 0,
    ) -> Object:
        """A meta.k8s.io/v1 Table. `limit`: at most so many rows; 0: all."""
        query = _selectors(labels, fields) | ({"limit": str(limit)} if limit else {})
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
        table: bool = False,
    ) -> Iterator[Object]:
        """Watch events (`type`, `object`), until the server or `timeout` seconds end it; bookmarks
        are among them. With `table` each object is a Table of one row. Raises Refused (410) when
        `since` is too old to go on from."""
        query = {"watch": "1", "allowWatchBookmarks": "true", **_selectors(labels, fields)}
        if since:
            query["resourceVersion"] = since
        if timeout is not None:
            query["timeoutSeconds"] = str(max(1, int(timeout)))
        silence = min(timeout, WATCH_SILENCE) if timeout is not None else WATCH_SILENCE
        limits = httpx.Timeout(silence, connect=10.0)
        headers = {"Accept": TABLE} if table else {}
        with self._stream(self.path(type_, namespace), query, limits, headers) as lines:
            try:
                for line in lines:
                    if line:
                        yield _watched(json.loads(line))
            except httpx.ReadTimeout:
                return

    def create(
        self, type_: ResourceType, namespace: str | None, body: Object, *, dry_run: bool = False
    ) -> Object:
        query = _writing(dry_run=dry_run)
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
        query = _writing(dry_run=dry_run) | ({"force": "true"} if force else {})
        path = self.object_path(type_, namespace, body["metadata"]["name"])
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._json("PATCH", path, params=query, body=body, headers=headers)

    def replace(self, type_: ResourceType, namespace: str | None, body: Object) -> Object:
        path = self.object_path(type_, namespace, body["metadata"]["name"])
        return self._json("PUT", path, params=_writing(), body=body)

    def patch(
        self,
        type_: ResourceType,
        namespace: str | None,
        name: str,
        change: Any,
        *,
        style: str,
        sub: str = "",
    ) -> Object:
        """`style`: `merge` (RFC 7386) or `json` (RFC 6902). `sub`: a subresource to write to."""
        headers = {"Content-Type": f"application/{style}-patch+json"}
        path = self.object_path(type_, namespace, name, sub)
        return self._json("PATCH", path, params=_writing(), body=change, headers=headers)

    def delete(
        self, type_: ResourceType, namespace: str | None, name: str, *, dry_run: bool = False
    ) -> Object:
        """The Status of what is gone; or the object itself, while it waits for its finalizers."""
        query = {"dryRun": "All"} if dry_run else {}
        return self._json("DELETE", self.object_path(type_, namespace, name), params=query)

    def read(self, path: str, **query: str) -> Object:
        """GET of any path of the API."""
        return self._json("GET", path, params=query)

    def content(self, path: str) -> bytes:
        """What is no JSON, as it is; of at most some MiB."""
        try:
            response = self._http.get(path)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._refusal(response)
        return response.content

    def lines(self, path: str, *, follow: bool, **query: str) -> Iterator[str]:
        """Lines of a text answer; with `follow` as they come, without end."""
        limits = httpx.Timeout(None, connect=10.0) if follow else self._timeout
        query |= {"follow": "true"} if follow else {}
        with self._stream(path, query, limits) as lines:
            yield from lines

    def connect(self, path: str, *, max_size: int, **query: str) -> ClientConnection:
        """A websocket, the caller's to close. `max_size`: of one message, in bytes."""
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        url = self._http.base_url.copy_with(scheme="wss")
        try:
            return connect(
                f"{str(url).rstrip('/')}{path}?{urllib.parse.urlencode(query)}",
                ssl=self._tls,
                additional_headers=self._headers,
                user_agent_header=None,
                proxy=None,
                compression=None,
                max_size=max_size,
            )
        except InvalidStatus as refused:
            answer = refused.response
            raise self._refusal(
                httpx.Response(answer.status_code, content=bytes(answer.body))
            ) from None
        except (WebSocketException, OSError) as error:
            raise self._unreachable(error) from None

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
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._refusal(response)
        for text in _WARNING.findall(response.headers.get("warning", "")):
            self._warn(re.sub(r"\\(.)", r"\1", text))
        try:
            answer: Object = response.json()
        except ValueError:
            raise ClientError(
                f"cannot understand {self._http.base_url}: it answers, but not with JSON",
                "is the kubeconfig's server a fleet's address for operators?",
            ) from None
        return answer

    @contextlib.contextmanager
    def _stream(
        self,
        path: str,
        query: Mapping[str, str],
        limits: httpx.Timeout,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Iterator[str]]:
        """Lines as they come. What fails later fails in the same way as what fails at once."""
        try:
            with self._http.stream(
                "GET", path, params=query, timeout=limits, headers=headers
            ) as response:
                if response.is_error:
                    response.read()
                    raise self._refusal(response)
                yield response.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ClientError:
        server = str(self._http.base_url).rstrip("/")
        why = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in why:
            return ClientError(
                f"cannot trust the fleet at {server}: its certificate is not what the kubeconfig "
                f"says ({why.rpartition(': ')[2]})",
                "the kubeconfig is another fleet's, or the fleet was set up anew",
            )
        return ClientError(
            f"cannot reach the fleet at {server}: {why}",
            "is it running, and is the kubeconfig its own?",
        )

    def _refusal(self, response: httpx.Response) -> Refused:
        try:
            status = response.json()
        except ValueError:
            status = {}
        if not isinstance(status, dict):
            status = {}
        code, reason = response.status_code, status.get("reason", "")
        message = status.get("message") or f"the fleet answered {code}"
        if code == 401:
            server = str(self._http.base_url).rstrip("/")
            message = f"cannot log in to the fleet at {server}: it does not know who this is"
        return Refused(code, reason, message, _hint(code, reason, status))


def _hint(code: int, reason: str, status: Object) -> str:
    details = status.get("details") or {}
    if code == 401:
        return "the kubeconfig's token or certificate is another fleet's, or has expired"
    if code == 404 and details.get("name"):
        return f"`edgevirt get {details.get('kind', '')}` lists those that are there"
    if code == 409 and reason == "Conflict":
        causes = {cause.get("reason") for cause in details.get("causes", ())}
        if "FieldManagerConflict" in causes:
            return "--force-conflicts takes the fields over"
        if "InUse" not in causes:
            return "somebody changed it meanwhile: read it again, then repeat"
    return ""


def _watched(event: Object) -> Object:
    """Raises Refused when the event says that the watch cannot go on."""
    if event["type"] == "ERROR":
        status = event["object"]
        code, reason = int(status.get("code", 500)), status.get("reason", "")
        raise Refused(code, reason, status.get("message", "cannot go on watching"))
    return event


def _segment(text: str) -> str:
    """Of a path. No name needs quoting; a mistyped one must not become another path."""
    if text in {"", ".", ".."}:
        raise ClientError(f"cannot use {text!r} as a name")
    return urllib.parse.quote(text, safe="")


def _writing(*, dry_run: bool = False) -> dict[str, str]:
    query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
    return query | ({"dryRun": "All"} if dry_run else {})


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in query.items() if value}


def _tls_context(connection: Connection) -> ssl.SSLContext:
    """Raises ClientError when the kubeconfig's material is unusable."""
    try:
        context = ssl.create_default_context(cadata=connection.ca or None)
        if connection.certificate:
            # OpenSSL takes a client key from a file only: a private one, gone at once.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
                pair.write(connection.certificate + "\n" + connection.key)
                pair.flush()
                context.load_cert_chain(pair.name)
    except (ssl.SSLError, ValueError) as error:
        raise ClientError(
            f"cannot use the kubeconfig's certificates for {connection.server}: {error}"
        ) from None
    return context
