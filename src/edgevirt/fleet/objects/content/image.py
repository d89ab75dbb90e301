"""Image: what an app or a volume is made from, by reference (a content tree)."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition, LocalRef
from edgevirt.fleet.objects.base.problems import Problem, required
from edgevirt.fleet.objects.content.content import CONTAINER, check_content, digest_of
from edgevirt.fleet.objects.content.datastore import check_signing_keys
from edgevirt.model.quantity import Quantity, whole

FORMATS = ("Container", "Raw", "Qcow", "Qcow2", "VHD", "VMDK", "OVA", "VHDX", "ISO")


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
        return digest_of(self.spec)


def validate(image: Image) -> Iterator[Problem]:
    spec = image.spec
    yield from check_content(spec, FORMATS)
    if spec.format != CONTAINER and not spec.sha256:
        yield required("spec.sha256", "a disk image is verified by it")
    yield from check_signing_keys(spec.signing_keys)


COLUMNS = (
    NAME,
    Column("Format", lambda i, _: i.spec.format),
    Column("Reference", lambda i, _: i.spec.reference),
    Column("Datastores", lambda i, _: ",".join(r.name for r in i.spec.datastore_refs), priority=1),
    AGE,
)
