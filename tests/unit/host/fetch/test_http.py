"""Where an HTTP datastore's files are, and what its credentials become."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgevirt.host.fetch import Access, CannotFetch, Timeouts, Wanted, open_source
from edgevirt.model.content import Datastore, DatastoreType
from edgevirt.model.ids import DatastoreId, Digest
from tests.parts.rough_server import Request, answer, rough_server

BLOB = Digest("sha256:" + "a" * 64)


def access(fqdn: str, kind: DatastoreType = DatastoreType.HTTP, **fields: Any) -> Access:
    given = {name: fields.pop(name) for name in ("user", "password") if name in fields}
    store = Datastore(id=DatastoreId("d"), type=kind, fqdn=fqdn, **fields)
    return Access(store, insecure_auth=True, **given)


async def asked(url: str, **fields: Any) -> Request:
    """What a server is asked for a content tree's url."""

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"blob")

    async with rough_server(serve) as server:
        fqdn = fields.pop("fqdn", "{url}").format(url=server.url, host=server.host)
        source = open_source(access(fqdn, **fields), Timeouts(5, 5))
        async with source.open(Wanted(url, BLOB), 0) as transfer:
            assert [chunk async for chunk in transfer.chunks] == [b"blob"]
        await source.close()
        (request,) = server.requests
        return request


@pytest.mark.parametrize(
    ("fqdn", "dpath", "url", "path"),
    [
        ("{url}", "", "disk.raw", "/disk.raw"),
        ("{url}/", "/images/", "/disk.raw", "/images/disk.raw"),
        ("{host}", "a/b", "c d.raw", "/a/b/c%20d.raw"),
        ("{url}", "", "x%20y?v=1", "/x%20y?v=1"),
    ],
)
async def test_a_file_is_at_the_name_the_path_and_the_url(
    fqdn: str, dpath: str, url: str, path: str
) -> None:
    assert (await asked(url, fqdn=fqdn, dpath=dpath)).path == path


@pytest.mark.parametrize(
    ("user", "password", "sent"),
    [("Bearer", "t0k", "Bearer t0k"), ("", "t0k", "t0k"), ("", "", None)],
)
async def test_the_user_names_the_scheme_of_the_credentials(
    user: str, password: str, sent: str | None
) -> None:
    request = await asked("x", user=user, password=password)
    assert request.headers.get("authorization") == sent


@pytest.mark.parametrize(
    ("fqdn", "kind"),
    [
        ("ftp://host", DatastoreType.HTTP),
        ("http://host", DatastoreType.HTTPS),
        ("docker://host", DatastoreType.HTTPS),
    ],
)
def test_what_is_no_url_of_its_kind_is_refused(fqdn: str, kind: DatastoreType) -> None:
    with pytest.raises(CannotFetch, match=f"cannot fetch from {fqdn}"):
        open_source(access(fqdn, kind), Timeouts())


@pytest.mark.parametrize(
    "kind",
    [DatastoreType.S3, DatastoreType.SFTP, DatastoreType.AZURE_BLOB, DatastoreType.UNKNOWN],
)
def test_a_kind_that_is_not_supported_says_so(kind: DatastoreType) -> None:
    with pytest.raises(CannotFetch, match=f"type {kind.name}: not supported"):
        open_source(access("host", kind), Timeouts())
