"""HTTP and HTTPS datastores: a blob is the file at `fqdn/dpath/url`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from edgevirt.host.fetch.source import Access, CannotFetch, Timeouts, Transfer, Wanted
from edgevirt.host.fetch.web import Web, range_from
from edgevirt.model.content import DatastoreType
from edgevirt.model.ids import Digest


class HttpSource:
    """Credentials: the header `Authorization: <user> <password>`, so that the user names the
    scheme (Basic, Bearer). In clear text they are refused unless a property allows it.
    """

    def __init__(self, access: Access, timeouts: Timeouts) -> None:
        self._access = access
        self._base = _base(access)
        self._web = Web(self._base, access.datastore.ca_pem, timeouts)

    async def close(self) -> None:
        await self._web.close()

    async def resolve(self, url: str) -> Digest:
        raise CannotFetch(f"cannot fetch {url}: an HTTP datastore has no tags; give its sha256")

    @asynccontextmanager
    async def open(self, wanted: Wanted, offset: int) -> AsyncIterator[Transfer]:
        url = f"{self._base}/{quote(wanted.url.lstrip('/'), safe='/%?=&:@+,;~')}"
        async with self._web.ask(url, {**self._headers(), **range_from(offset)}) as answer:
            yield await self._web.transfer(answer, url, offset, "server")

    def _headers(self) -> dict[str, str]:
        user, password = self._access.user, self._access.password
        if not user and not password:
            return {}
        if self._base.startswith("http:") and not self._access.insecure_auth:
            raise CannotFetch(
                f"cannot fetch from {self._base}: its credentials would go in clear text"
                " (datastore.http.security.allowinsecureauth)"
            )
        return {"Authorization": f"{user} {password}".strip()}


def _base(access: Access) -> str:
    store = access.datastore
    secure = store.type == DatastoreType.HTTPS
    fqdn = store.fqdn.rstrip("/")
    if "://" not in fqdn:
        fqdn = f"{'https' if secure else 'http'}://{fqdn}"
    if not fqdn.startswith(("https://", "http://")) or (secure and fqdn.startswith("http://")):
        raise CannotFetch(f"cannot fetch from {store.fqdn}: not a URL of {store.type.name}")
    dpath = store.dpath.strip("/")
    return f"{fqdn}/{quote(dpath, safe='/%')}" if dpath else fqdn
