"""One TLS connection to a fleet: requests, streams and websockets, and what their failures mean."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx

from edgevirt.client.errors import ClientError, Refused
from edgevirt.client.kubeconfig import Connection
from edgevirt.client.resources import Object

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_WARNING: Final = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


class Transport:
    """Every method raises Refused or ClientError."""

    def __init__(
        self, connection: Connection, timeout: httpx.Timeout, warn: Callable[[str], None]
    ) -> None:
        """`warn` hears what the fleet says beside its answers."""
        self._warn = warn
        self._timeout = timeout
        self._headers = {"User-Agent": "edgevirt"}
        if connection.token:
            self._headers["Authorization"] = f"Bearer {connection.token}"
        self._tls = _tls_context(connection)
        self._http = httpx.Client(
            base_url=connection.server,
            verify=self._tls,
            headers=self._headers,
            timeout=timeout,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def json(
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

    def content(self, path: str) -> bytes:
        """What is no JSON, as it is; of at most some MiB."""
        try:
            response = self._http.get(path)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._refusal(response)
        return response.content

    @contextlib.contextmanager
    def lines(
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

    def connect(self, path: str, query: Mapping[str, str], *, max_size: int) -> ClientConnection:
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
        message = _by_line(status) or status.get("message") or f"the fleet answered {code}"
        if code == 401:
            server = str(self._http.base_url).rstrip("/")
            message = f"cannot log in to the fleet at {server}: it does not know who this is"
        return Refused(code, reason, message, _hint(code, reason, status))


def _by_line(status: Object) -> str:
    """Of an object with several flaws, each on a line of its own; empty for all else."""
    causes = (status.get("details") or {}).get("causes") or ()
    head, invalid, _ = str(status.get("message", "")).partition(" is invalid: [")
    if len(causes) < 2 or not invalid:
        return ""
    flaws = (": ".join(filter(None, (c.get("field"), c.get("message")))) for c in causes)
    return "\n  ".join([f"{head} is invalid:", *flaws])


def _hint(code: int, reason: str, status: Object) -> str:
    details = status.get("details") or {}
    if code == 401:
        return "the kubeconfig's token or certificate is another fleet's, or has expired"
    if code == 403:
        return "who runs the fleet gives more rights, by `edgevirt fleet grant`"
    if code == 404 and details.get("name"):
        return f"`edgevirt get {details.get('kind', '')}` lists those that are there"
    if code == 409 and reason == "Conflict":
        causes = {cause.get("reason") for cause in details.get("causes", ())}
        if "FieldManagerConflict" in causes:
            return "--force-conflicts takes the fields over"
        if "InUse" not in causes:
            return "somebody changed it meanwhile: read it again, then repeat"
    return ""


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
