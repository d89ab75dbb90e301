"""HTTP for all datastores: ranges, redirects, TLS, bounds.

Credentials go to the host that they are for and to no other; nothing goes from TLS to clear
text; neither the environment's proxies nor its credentials are used.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from edgevirt.host.fetch.low_water import LowWater
from edgevirt.host.fetch.source import BeyondEnd, CannotFetch, Timeouts, Transfer

if TYPE_CHECKING:
    import httpx

Content = Callable[[], AsyncIterator[bytes]]
"""A body to send; called anew each time that it has to be sent."""

MAX_REDIRECTS = 5
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that is read as a whole."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")
_REDIRECTS = {301, 302, 303, 307, 308}


class Web:
    """An HTTP client of one datastore. Its own host must prove itself by `ca_pem` when that is
    given; other hosts (where a redirect leads) by that or by the system's CAs.
    """

    def __init__(self, origin: str, ca_pem: tuple[str, ...], timeouts: Timeouts) -> None:
        self._origin = _origin(origin)
        self._ca_pem = ca_pem
        self._timeouts = timeouts
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def body(self, answer: httpx.Response, url: str) -> bytes:
        """The whole body. Raises CannotFetch, also for one beyond MAX_ANSWER."""
        body = bytearray()
        async for chunk in self.chunks(answer, url):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise CannotFetch(
                    f"cannot fetch {shown(url)}: an answer of more than {MAX_ANSWER} bytes"
                )
        return bytes(body)

    @asynccontextmanager
    async def ask(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        content: Content | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, redirects followed, its body still to be read. Raises CannotFetch."""
        import httpx

        sent = dict(headers)
        for _ in range(MAX_REDIRECTS + 1):
            client = self._client(url)
            try:
                body = None if content is None else content()
                request = client.build_request(method, url, headers=sent, content=body)
                answer = await client.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as failure:
                raise CannotFetch(f"cannot fetch {shown(url)}: {_words(failure)}") from failure
            target = answer.headers.get("location", "")
            if answer.status_code not in _REDIRECTS or not target:
                try:
                    yield answer
                finally:
                    await answer.aclose()
                return
            await answer.aclose()
            url = _redirect(url, target, sent)
        raise CannotFetch(f"cannot fetch {shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def chunks(self, answer: httpx.Response, url: str) -> AsyncIterator[bytes]:
        """The body as it came over the wire. Raises CannotFetch."""
        import httpx

        try:
            with LowWater(answer) as low_water:
                async for chunk in answer.aiter_raw():
                    low_water.came(len(chunk))
                    yield chunk
        except (httpx.HTTPError, httpx.StreamError, ssl.SSLError) as failure:
            raise CannotFetch(f"cannot fetch {shown(url)}: {_words(failure)}") from failure

    async def transfer(
        self, answer: httpx.Response, url: str, offset: int, server: str
    ) -> Transfer:
        """The blob in an answer to a request with `range_from(offset)`. `server`: what to call it
        in an error («registry»). Raises CannotFetch.
        """
        if answer.status_code == 416:
            raise BeyondEnd(await self.refusal(answer, url, server))
        if answer.status_code not in {200, 206}:
            raise CannotFetch(await self.refusal(answer, url, server))
        start, size = _extent(answer, url)
        if start > offset:
            raise CannotFetch(f"cannot fetch {shown(url)}: asked from byte {offset}, got {start}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Transfer(start, size, media_type, self.chunks(answer, url))

    async def refusal(self, answer: httpx.Response, url: str, server: str) -> str:
        """What an answer that is no success says: its status and the begin of its words."""
        said = bytearray()
        with suppress(CannotFetch):  # its status is known already
            async for chunk in self.chunks(answer, url):
                said += chunk
                if len(said) > 400:
                    break
        words = " ".join(said[:400].decode(errors="replace").split())
        why = f"{server} answered {answer.status_code}"
        return f"cannot fetch {shown(url)}: {why}: {words or answer.reason_phrase}"

    def _client(self, url: str) -> httpx.AsyncClient:
        import httpx

        own = _origin(url) == self._origin
        if own not in self._clients:
            timeout = httpx.Timeout(
                self._timeouts.stalled, connect=self._timeouts.connect, pool=None
            )
            self._clients[own] = httpx.AsyncClient(
                verify=self._trust(own),
                timeout=timeout,
                trust_env=False,
                follow_redirects=False,
                headers={"User-Agent": "edgevirt", "Accept-Encoding": "identity"},
            )
        return self._clients[own]

    def _trust(self, own: bool) -> ssl.SSLContext:
        pinned = own and bool(self._ca_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not pinned:
            context.load_default_certs()
        for pem in self._ca_pem:
            try:
                context.load_verify_locations(cadata=pem)
            except (ssl.SSLError, ValueError) as failure:
                raise CannotFetch(f"cannot fetch: a CA of the datastore: {failure}") from failure
        return context


def shown(url: str) -> str:
    """A URL as it may be told: a signature in its query, or a password, is a secret."""
    scheme, separator, rest = url.partition("://")
    where = rest.partition("?")[0]
    host, slash, path = where.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def range_from(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError as failure:
        raise CannotFetch(f"cannot fetch {shown(url)}: {failure}") from failure
    return parts.scheme, (parts.hostname or "").lower(), port


def _redirect(url: str, target: str, headers: dict[str, str]) -> str:
    """Where a redirect leads; takes the credentials out of `headers` when to another host."""
    try:
        there = urljoin(url, target)
    except ValueError as failure:
        raise CannotFetch(
            f"cannot fetch {shown(url)}: redirected to nowhere: {failure}"
        ) from failure
    scheme = _origin(there)[0]
    if scheme not in {"http", "https"} or (scheme == "http" and _origin(url)[0] == "https"):
        raise CannotFetch(f"cannot fetch {shown(url)}: redirected from TLS to {scheme}")
    if _origin(there) != _origin(url):
        for name in [name for name in headers if name.lower() in {"authorization", "cookie"}]:
            del headers[name]
    return there


def _extent(answer: httpx.Response, url: str) -> tuple[int, int | None]:
    """(first byte, size of the whole) of a 200 or 206."""
    if answer.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None:
            raise CannotFetch(f"cannot fetch {shown(url)}: a part without a readable Content-Range")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("content-length", "")
    return 0, int(length) if length.isdecimal() else None


def _words(failure: BaseException) -> str:
    """httpx's timeouts say nothing by themselves."""
    text = str(failure)
    name = type(failure).__name__
    if name == "ReadTimeout":
        return "stalled: no byte came in time"
    if name == "ConnectTimeout":
        return "no connection in time"
    return text or name
