"""Datastore: a place from which nodes fetch images."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition, LocalRef
from edgevirt.fleet.objects.base.problems import Problem, invalid, required, unsupported
from edgevirt.wire import cosign

SCHEMES = {"OCIRegistry": ("docker", "oci"), "HTTP": ("http",), "HTTPS": ("https",)}
"""Scheme of the URL for each type that is served."""
LATER = ("S3", "SFTP", "AzureBlob", "GoogleStorage")


class DatastoreSpec(ApiStruct, frozen=True, kw_only=True):
    """Where it is, and how to get in."""

    type: str = ""
    """`OCIRegistry`, `HTTP` or `HTTPS`."""
    url: str = ""
    """`docker://registry.example.com[:port]` or `https://files.example.com[:port]`."""
    path: str = ""
    """Path below which all references are, without slashes at its ends."""
    credentials_secret_ref: LocalRef | None = None
    """A Secret with `username` and `password`."""
    ca_certificates: tuple[str, ...] = ()
    """PEM certificates to trust for this datastore, besides the node's own."""
    signing_keys: tuple[str, ...] = ()
    """Public keys (PEM, ECDSA with P-256). All that nodes fetch from an OCIRegistry with keys must
    be signed with one of them, as `edgevirt eci sign` and cosign sign."""


class DatastoreStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class Datastore(ApiObject, frozen=True, kw_only=True):
    """A place from which nodes fetch images."""

    spec: DatastoreSpec = DatastoreSpec()
    """Where it is, and how to get in."""
    status: DatastoreStatus = DatastoreStatus()
    """What is known of it."""


def validate(datastore: Datastore) -> Iterator[Problem]:
    spec = datastore.spec
    if not spec.type:
        yield required("spec.type", f"one of {', '.join(SCHEMES)}")
    elif spec.type not in SCHEMES:
        hint = f"{spec.type} is not served yet" if spec.type in LATER else ""
        yield unsupported("spec.type", spec.type, SCHEMES, hint)
    else:
        yield from _check_url(spec)
    if spec.path.startswith("/") or spec.path.endswith("/") or ".." in spec.path.split("/"):
        yield invalid("spec.path", spec.path, "must have no slash at its ends, and no '..'")
    if spec.credentials_secret_ref is not None and not spec.credentials_secret_ref.name:
        yield required("spec.credentialsSecretRef.name")
    for index, pem in enumerate(spec.ca_certificates):
        try:
            x509.load_pem_x509_certificates(pem.encode())
        except ValueError:
            yield invalid(f"spec.caCertificates[{index}]", pem[:40], "must be certificates in PEM")
    yield from check_signing_keys(spec.signing_keys)
    if spec.signing_keys and spec.type in {"HTTP", "HTTPS"}:
        why = "must not be there: signatures lie in an OCIRegistry, beside their images"
        yield invalid("spec.signingKeys", spec.type, why)


def check_signing_keys(keys: tuple[str, ...]) -> Iterator[Problem]:
    """Of a Datastore or an Image."""
    if len(keys) > cosign.MAX_KEYS:
        yield invalid("spec.signingKeys", str(len(keys)), f"must be {cosign.MAX_KEYS} at most")
    for index, pem in enumerate(keys):
        field = f"spec.signingKeys[{index}]"
        if "PRIVATE" in pem:
            yield invalid(field, "<hidden>", "must be a public key, and this is a private one")
            continue
        try:
            cosign.parse_key(pem)
        except cosign.BadKey as error:
            yield invalid(field, pem[:40], f"must be a public key in PEM: {error}")


def _check_url(spec: DatastoreSpec) -> Iterator[Problem]:
    schemes = SCHEMES[spec.type]
    want = f"must be like {schemes[0]}://host[:port]"
    if not spec.url:
        yield required("spec.url", want)
        return
    try:
        url = urlsplit(spec.url)
        port = url.port
    except ValueError:
        yield invalid("spec.url", spec.url, want)
        return
    if url.username or url.password:
        yield invalid("spec.url", "<hidden>", "must hold no password: use credentialsSecretRef")
    elif url.scheme not in schemes or not url.hostname or port == 0:
        yield invalid("spec.url", spec.url, want)
    elif url.path.strip("/") or url.query or url.fragment:
        yield invalid("spec.url", spec.url, want + ": a path goes into spec.path")


COLUMNS = (
    NAME,
    Column("Type", lambda d, _: d.spec.type),
    Column("URL", lambda d, _: d.spec.url),
    Column("Path", lambda d, _: d.spec.path or "<none>", priority=1),
    AGE,
)
