"""OSImage: a version of the node's own software, and what measuring it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition, LocalRef
from edgevirt.fleet.objects.base.problems import Problem, invalid, required, unsupported
from edgevirt.fleet.objects.content.content import CONTAINER, check_content, digest_of
from edgevirt.fleet.objects.software.registers import check_registers
from edgevirt.model.quantity import Quantity, human, whole

FORMATS = ("Raw", CONTAINER)
ARCHITECTURES = ("amd64", "arm64")

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class OSImageSpec(ApiStruct, frozen=True, kw_only=True):
    """Which version it is, where it is, and what it must be."""

    version: str = ""
    """The version, exactly as a node that runs it reports it."""
    datastore_refs: tuple[LocalRef, ...] = ()
    """Datastores that have it; tried in order."""
    reference: str = ""
    """The path of the root image; of a registry `repository[:tag][@sha256:digest]`."""
    format: str = "Raw"
    """`Raw`, a root image as a file; or `Container`, where a registry has it."""
    sha256: str = ""
    """SHA-256 of the file (in a registry: of the manifest), in hex."""
    max_size: Quantity = 0
    """Refuse to download more than this, such as `200Mi`; 0: no bound."""
    architecture: str = ""
    """`amd64` or `arm64`; empty: any that a node may have."""
    measurements: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By the number of a TPM's register: the values, in hex, that it may have when this version was
    booted. An AttestationPolicy can learn them."""


class OSImageStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class OSImage(ApiObject, frozen=True, kw_only=True):
    """A version of the node's own software."""

    spec: OSImageSpec = OSImageSpec()
    """Which version it is, where it is, and what it must be."""
    status: OSImageStatus = OSImageStatus()
    """What is known of it."""

    @property
    def max_bytes(self) -> int:
        return whole(self.spec.max_size)

    @property
    def digest(self) -> str:
        """Hex of the wanted SHA-256, from `sha256` or from the reference."""
        return digest_of(self.spec)


def validate(image: OSImage) -> Iterator[Problem]:
    spec = image.spec
    if not spec.version:
        yield required("spec.version", "as a node that runs it reports it")
    elif not _VERSION.fullmatch(spec.version):
        why = "must be letters, digits and '.', '_', '+', '-', at most 128 of them"
        yield invalid("spec.version", spec.version, why)
    yield from check_content(spec, FORMATS)
    if not digest_of(spec):  # a tag that moves must not become another version by the same name
        yield required("spec.sha256", "a node writes nothing that it cannot verify")
    if spec.architecture and spec.architecture not in ARCHITECTURES:
        yield unsupported("spec.architecture", spec.architecture, ARCHITECTURES)
    yield from check_registers("spec.measurements", spec.measurements)


def _size(image: OSImage, _now: float) -> str:
    return human(image.max_bytes) if image.max_bytes else "<none>"


COLUMNS = (
    NAME,
    Column("Version", lambda i, _: i.spec.version),
    Column("Architecture", lambda i, _: i.spec.architecture or "<any>"),
    Column("Measured", lambda i, _: ",".join(sorted(i.spec.measurements, key=int)) or "<no>",
           description="TPM registers whose values are known"),
    Column("Reference", lambda i, _: i.spec.reference, priority=1),
    Column("Datastores", lambda i, _: ",".join(r.name for r in i.spec.datastore_refs), priority=1),
    Column("Max Size", _size, priority=1),
    AGE,
)  # fmt: skip
