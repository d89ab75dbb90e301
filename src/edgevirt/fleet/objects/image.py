"""Image: what an app or a volume is made from, by reference (a content tree)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevirt.fleet.objects.base import ApiObject, ApiStruct, Condition, LocalRef
from edgevirt.fleet.objects.columns import AGE, NAME, Column
from edgevirt.fleet.objects.datastore import check_signing_keys
from edgevirt.fleet.objects.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.model.quantity import Quantity, whole

FORMATS = ("Container", "Raw", "Qcow", "Qcow2", "VHD", "VMDK", "OVA", "VHDX", "ISO")
CONTAINER = "Container"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_OCI = re.compile(
    rf"{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


class ImageSpec(ApiStruct, frozen=True, kw_only=True):
    """Where it is, and what it must be."""

    datastore_refs: tuple[LocalRef, ...] = ()
    """Datastores that have it; tried in order."""
    reference: str = ""
    """For a registry `repository[:tag][@sha256:digest]`; else the path of the file."""
    format: str = CONTAINER
    """`Container` for all that is an OCI artifact in a registry, machines as well: what it is it
    says itself. Else the format of a disk: `Raw`, `Qcow`, `Qcow2`, `VHD`, `VMDK`, `OVA`, `VHDX`,
    `ISO`."""
    sha256: str = ""
    """SHA-256 of the file (for a container: of its manifest or index), in hex. A container without
    it is resolved by its tag on the node."""
    max_size: Quantity = 0
    """Refuse to download more than this, such as `200Mi`; 0: no bound."""
    signing_keys: tuple[str, ...] = ()
    """Public keys (PEM, ECDSA with P-256), one of which must have signed it, instead of those of
    its Datastores."""


class ImageStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class Image(ApiObject, frozen=True, kw_only=True):
    """What an app is made from."""

    spec: ImageSpec = ImageSpec()
    """Where it is, and what it must be."""
    status: ImageStatus = ImageStatus()
    """What is known of it."""

    @property
    def max_bytes(self) -> int:
        return whole(self.spec.max_size)

    @property
    def digest(self) -> str:
        """Hex of the wanted SHA-256, from `sha256` or from the reference; empty: by tag."""
        return self.spec.sha256 or self.spec.reference.partition("@sha256:")[2]


def validate(image: Image) -> Iterator[Problem]:
    spec = image.spec
    if not spec.datastore_refs:
        yield required("spec.datastoreRefs", "name at least one Datastore")
    for index, ref in enumerate(spec.datastore_refs):
        if not ref.name:
            yield required(f"spec.datastoreRefs[{index}].name")
        if ref in spec.datastore_refs[:index]:
            yield duplicate(f"spec.datastoreRefs[{index}].name", ref.name)
    if spec.format not in FORMATS:
        yield unsupported("spec.format", spec.format, FORMATS)
    yield from check_reference("spec.reference", spec.reference, spec.format)
    yield from _check_digest(spec)
    yield from check_size("spec.maxSize", spec.max_size, least=0)
    yield from check_signing_keys(spec.signing_keys)


def check_reference(field: str, reference: str, format: str) -> Iterator[Problem]:
    """In a registry, or the path of a file."""
    if not reference:
        yield required(field)
    elif format == CONTAINER:
        if not _OCI.fullmatch(reference):
            why = "must be repository[:tag][@sha256:digest]; the registry's host is the Datastore's"
            yield invalid(field, reference, why)
    elif reference.startswith("/") or ".." in reference.split("/"):
        yield invalid(field, reference, "must be a path relative to the Datastore, without '..'")


def _check_digest(spec: ImageSpec) -> Iterator[Problem]:
    inner = spec.reference.partition("@sha256:")[2]
    if spec.sha256 and not _SHA256.fullmatch(spec.sha256):
        yield invalid("spec.sha256", spec.sha256, "must be 64 lower case hex digits")
    elif spec.sha256 and inner and spec.sha256 != inner:
        yield invalid("spec.sha256", spec.sha256, "must be the digest in spec.reference, or absent")
    elif not spec.sha256 and spec.format != CONTAINER:
        yield required("spec.sha256", "a disk image is verified by it")


def check_size(field: str, size: Quantity, *, least: int) -> Iterator[Problem]:
    """A quantity of bytes."""
    try:
        amount = whole(size)
    except ValueError as error:
        yield invalid(field, size, str(error))
        return
    if not least <= amount < 2**63:
        yield invalid(field, size, f"must be at least {least} bytes")


COLUMNS = (
    NAME,
    Column("Format", lambda i, _: i.spec.format),
    Column("Reference", lambda i, _: i.spec.reference),
    Column("Datastores", lambda i, _: ",".join(r.name for r in i.spec.datastore_refs), priority=1),
    AGE,
)
