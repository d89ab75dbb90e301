"""OCI registries: the distribution API v2, with Basic and Bearer authorization."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from edgevirt.host.fetch.source import Access, CannotFetch, NotThere, Timeouts, Transfer, Wanted
from edgevirt.host.fetch.web import Content, Web, range_from, shown
from edgevirt.model.ids import Digest
from edgevirt.wire import oci

if TYPE_CHECKING:
    import httpx

_ACCEPT = ", ".join(sorted(oci.MANIFESTS))
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}")


class Reference(msgspec.Struct, frozen=True):
    """`repository[:tag][@digest]`."""

    repository: str
    tag: str = "latest"
    digest: Digest | None = None


def parse_reference(text: str) -> Reference:
    """Raises CannotFetch."""
    name, at, digest = text.strip("/").partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, "latest"
    good = _REPOSITORY.fullmatch(repository) and _TAG.fullmatch(tag)
    if not good or (at and not oci.is_digest(digest)):
        raise CannotFetch(f"cannot fetch {text!r}: not REPOSITORY[:TAG][@DIGEST]")
    return Reference(repository, tag, Digest(digest) if at else None)


def registry_url(fqdn: str, *, has_ca: bool = False) -> str:
    """`https://HOST[:PORT]`, or http for this machine, `.local` and private addresses, which
    seldom have a certificate; those that have one say so by giving its CA. Raises CannotFetch.
    """
    scheme, _, host = fqdn.rpartition("://")
    host = host.rstrip("/")
    if scheme not in {"docker", "oci", ""} or not host or "/" in host:
        raise CannotFetch(f"cannot fetch from {fqdn}: not docker://HOST[:PORT]")
    if host in {"docker.io", "index.docker.io"}:
        host = "registry-1.docker.io"
    return f"{'http' if _is_private(host) and not has_ca else 'https'}://{host}"


def _is_private(host: str) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError as failure:
        raise CannotFetch(f"cannot fetch from {host}: {failure}") from failure
    if name == "localhost" or name.endswith((".localhost", ".local")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    return address.is_loopback or (
        address.version == 4 and any(address in ipaddress.ip_network(net) for net in private)
    )


class Registry:
    """One registry: requests with whatever authorization it asks for.

    `actions`: what tokens are asked for, `pull` or `pull,push`.
    """

    def __init__(self, access: Access, timeouts: Timeouts, actions: str = "pull") -> None:
        store = access.datastore
        self.url = registry_url(store.fqdn, has_ca=bool(store.ca_pem))
        self._access = access
        self._actions = actions
        self._authorizations: dict[str, str] = {}
        self.web = Web(self.url, store.ca_pem, timeouts)

    @asynccontextmanager
    async def ask(
        self,
        repository: str,
        url: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        content: Content | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, after whatever authorization it takes: a 401 is the last word."""
        for last in (False, False, True):
            entry = self._authorizations.get(repository)
            sent = headers if entry is None else {**headers, "Authorization": entry}
            async with self.web.ask(url, sent, method=method, content=content) as answer:
                refused = answer.status_code == 401
                if not refused or last or not await self._enter(answer, repository, entry):
                    yield answer
                    return

    async def _enter(self, answer: httpx.Response, repository: str, had: str | None) -> bool:
        """Gets what a 401 asks for. False: there is nothing left to try. `had`: what was sent."""
        if self._authorizations.get(repository) != had:  # another request got it meanwhile
            return True
        self._authorizations.pop(repository, None)
        scheme, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        if scheme.lower() == "basic" and self._access.user and had is None:
            self._authorizations[repository] = self._basic()
            return True
        if scheme.lower() == "bearer":
            token = await self._token(dict(_CHALLENGE.findall(rest)), repository)
            self._authorizations[repository] = f"Bearer {token}"
            return f"Bearer {token}" != had
        return False

    def _basic(self) -> str:
        pair = f"{self._access.user}:{self._access.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _token(self, challenge: dict[str, str], repository: str) -> str:
        realm = challenge.get("realm", "")
        clear = realm.startswith("http://") and self.url.startswith("http://")
        if not realm.startswith("https://") and not clear:
            raise CannotFetch(f"cannot fetch from {self.url}: its token realm is {realm[:200]!r}")
        query = {"scope": f"repository:{repository}:{self._actions}"}
        if "service" in challenge:
            query["service"] = challenge["service"]
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        headers = {"Authorization": self._basic()} if self._access.user else {}
        async with self.web.ask(url, headers) as answer:
            if answer.status_code != 200:
                raise CannotFetch(await self.web.refusal(answer, realm, "token server"))
            body = await self.web.body(answer, realm)
        try:
            said = msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError) as failure:
            raise CannotFetch(f"cannot fetch a token from {shown(realm)}: {failure}") from failure
        token = said.token or said.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise CannotFetch(
                f"cannot fetch a token from {shown(realm)}: there is none in its answer"
            )
        return token


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class RegistrySource:
    """`dpath` of the datastore goes before the repository of a content tree."""

    def __init__(self, access: Access, timeouts: Timeouts) -> None:
        self._registry = Registry(access, timeouts)
        self._prefix = access.datastore.dpath.strip("/")

    async def close(self) -> None:
        await self._registry.web.close()

    async def resolve(self, url: str) -> Digest:
        """By HEAD, which registries don't count as a pull; by GET where that tells no digest."""
        wanted = parse_reference(self._name(url))
        if wanted.digest is not None:
            return wanted.digest
        where = f"{self._registry.url}/v2/{wanted.repository}/manifests/{wanted.tag}"
        return await self._ask_tag(wanted.repository, where, "HEAD") or await self._get_tag(
            wanted.repository, where
        )

    async def _ask_tag(self, repository: str, url: str, method: str) -> Digest | None:
        headers = {"Accept": _ACCEPT}
        async with self._registry.ask(repository, url, headers, method=method) as answer:
            if answer.status_code in {401, 403, 404, 429}:
                raise await self._refused(answer, url)
            digest: str = answer.headers.get("docker-content-digest", "")
            good = answer.status_code == 200 and oci.is_digest(digest)
            return Digest(digest) if good else None

    async def _get_tag(self, repository: str, url: str) -> Digest:
        async with self._registry.ask(repository, url, {"Accept": _ACCEPT}) as answer:
            if answer.status_code != 200:
                raise await self._refused(answer, url)
            body = await self._registry.web.body(answer, url)
            return Digest(f"sha256:{hashlib.sha256(body).hexdigest()}")

    async def _refused(self, answer: httpx.Response, url: str) -> CannotFetch:
        why = await self._registry.web.refusal(answer, url, "registry")
        return NotThere(why) if answer.status_code == 404 else CannotFetch(why)

    @asynccontextmanager
    async def open(self, wanted: Wanted, offset: int) -> AsyncIterator[Transfer]:
        """A blob that isn't among the registry's blobs may be a manifest: what a content tree
        names by digest alone.
        """
        repository = parse_reference(self._name(wanted.url)).repository
        base = f"{self._registry.url}/v2/{repository}"
        places = ("manifests",) if wanted.is_manifest else ("blobs", "manifests")
        for place in places:
            url = f"{base}/{place}/{wanted.digest}"
            headers = range_from(offset)
            if place == "manifests":
                headers = {**headers, "Accept": _ACCEPT}
            async with self._registry.ask(repository, url, headers) as answer:
                if answer.status_code == 404 and place != places[-1]:
                    continue
                yield await self._registry.web.transfer(answer, url, offset, "registry")
                return

    def _name(self, url: str) -> str:
        return f"{self._prefix}/{url}" if self._prefix else url
