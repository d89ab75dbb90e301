"""What says which bytes are meant, and where they are: of an Image and of an OSImage."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Protocol

from edgevirt.fleet.objects.base.amounts import check_size
from edgevirt.fleet.objects.base.object import LocalRef
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.model.quantity import Quantity

CONTAINER = "Container"
"""The format of what is an OCI artifact in a registry."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_OCI = re.compile(
    rf"{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


class Content(Protocol):
    """The part of a spec that both have."""

    @property
    def datastore_refs(self) -> tuple[LocalRef, ...]: ...
    @property
    def reference(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def max_size(self) -> Quantity: ...


def digest_of(content: Content) -> str:
    """Hex of the wanted SHA-256, from `sha256` or from the reference; empty: neither says it."""
    return content.sha256 or content.reference.partition("@sha256:")[2]


def check_content(content: Content, formats: Collection[str]) -> Iterator[Problem]:
    yield from _check_datastores(content.datastore_refs)
    if content.format not in formats:
        yield unsupported("spec.format", content.format, formats)
    yield from _check_reference("spec.reference", content.reference, content.format)
    yield from _check_digest(content)
    yield from check_size("spec.maxSize", content.max_size, least=0)


def _check_datastores(refs: tuple[LocalRef, ...]) -> Iterator[Problem]:
    if not refs:
        yield required("spec.datastoreRefs", "name at least one Datastore")
    for index, ref in enumerate(refs):
        if not ref.name:
            yield required(f"spec.datastoreRefs[{index}].name")
        if ref in refs[:index]:
            yield duplicate(f"spec.datastoreRefs[{index}].name", ref.name)


def _check_reference(field: str, reference: str, format: str) -> Iterator[Problem]:
    """In a registry, or the path of a file."""
    if not reference:
        yield required(field)
    elif format == CONTAINER:
        if not _OCI.fullmatch(reference):
            why = "must be repository[:tag][@sha256:digest]; the registry's host is the Datastore's"
            yield invalid(field, reference, why)
    elif reference.startswith("/") or ".." in reference.split("/"):
        yield invalid(field, reference, "must be a path relative to the Datastore, without '..'")


def _check_digest(content: Content) -> Iterator[Problem]:
    inner = content.reference.partition("@sha256:")[2]
    if content.sha256 and not _SHA256.fullmatch(content.sha256):
        yield invalid("spec.sha256", content.sha256, "must be 64 lower case hex digits")
    elif content.sha256 and inner and content.sha256 != inner:
        why = "must be the digest in spec.reference, or absent"
        yield invalid("spec.sha256", content.sha256, why)
