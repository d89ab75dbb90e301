"""OSImage: a version of the node's own software, and what measuring it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base import ApiObject, ApiStruct, Condition, LocalRef
from edgevirt.fleet.objects.columns import AGE, NAME, Column
from edgevirt.fleet.objects.image import CONTAINER, check_reference, check_size
from edgevirt.fleet.objects.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.fleet.objects.registers import check_registers
from edgevirt.model.quantity import Quantity, human, whole

FORMATS = ("Raw", CONTAINER)
ARCHITECTURES = ("amd64", "arm64")

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        return self.spec.sha256 or self.spec.reference.partition("@sha256:")[2]


def validate(image: OSImage) -> Iterator[Problem]:
    spec = image.spec
    if not spec.version:
        yield required("spec.version", "as a node that runs it reports it")
    elif not _VERSION.fullmatch(spec.version):
        why = "must be letters, digits and '.', '_', '+', '-', at most 128 of them"
        yield invalid("spec.version", spec.version, why)
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
    if spec.architecture and spec.architecture not in ARCHITECTURES:
        yield unsupported("spec.architecture", spec.architecture, ARCHITECTURES)
    yield from check_registers("spec.measurements", spec.measurements)


def _check_digest(spec: OSImageSpec) -> Iterator[Problem]:
    """A tag that moves must not become another version under the same name."""
    inner = spec.reference.partition("@sha256:")[2]
    if not spec.sha256 and not inner:
        yield required("spec.sha256", "a node writes nothing that it cannot verify")
    elif spec.sha256 and not _SHA256.fullmatch(spec.sha256):
        yield invalid("spec.sha256", spec.sha256, "must be 64 lower case hex digits")
    elif spec.sha256 and inner and spec.sha256 != inner:
        yield invalid("spec.sha256", spec.sha256, "must be the digest in spec.reference, or absent")


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
