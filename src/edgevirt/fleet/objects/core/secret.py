"""Secret: a user and a password, kept encrypted, for datastores that ask for them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.names import check_label_key
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.base.problems import Problem, invalid, required, unsupported

BASIC_AUTH = "kubernetes.io/basic-auth"
OPAQUE = "Opaque"
MAX_BYTES = 1024 * 1024


class Secret(ApiObject, frozen=True, kw_only=True):
    """Confidential values. Kept encrypted; shown only to those who may read secrets."""

    type: str = OPAQUE
    """`Opaque`, or `kubernetes.io/basic-auth` with the keys `username` and `password`."""
    data: dict[str, str] = msgspec.field(default_factory=dict)
    """The values, in base64."""
    string_data: dict[str, str] = msgspec.field(default_factory=dict)
    """Values as plain text; only for writing: the server moves them into `data`."""
    immutable: bool | None = None
    """When true, the values cannot be changed any more."""


def settle(secret: Secret, _old: Secret | None, _by: str, _now: float) -> Secret:
    """With `stringData` moved into `data`, as Kubernetes does on every write, and a type."""
    moved = {k: base64.b64encode(v.encode()).decode() for k, v in secret.string_data.items()}
    return Secret(
        metadata=secret.metadata,
        type=secret.type or OPAQUE,
        data={**secret.data, **moved},
        immutable=secret.immutable,
    )


def value_of(secret: Secret, key: str) -> str:
    """A value of an opened secret in clear; empty when it is not there."""
    return base64.b64decode(secret.data.get(key, "")).decode()


def validate(secret: Secret) -> Iterator[Problem]:
    """Of the secret in clear."""
    if secret.type not in (OPAQUE, BASIC_AUTH):
        yield unsupported("type", secret.type, (OPAQUE, BASIC_AUTH))
    size = 0
    for key, value in secret.data.items():
        yield from check_label_key(f"data[{key}]", key)
        try:
            size += len(base64.b64decode(value, validate=True))
        except binascii.Error:
            yield invalid(f"data[{key}]", "<hidden>", "must be base64; plain text: stringData")
    if size > MAX_BYTES:
        yield invalid("data", size, f"must have at most {MAX_BYTES} bytes in all")
    if secret.type == BASIC_AUTH and not secret.data.keys() & {"username", "password"}:
        yield required("data[username]", "a basic-auth secret has username, password or both")


COLUMNS = (
    NAME,
    Column("Type", lambda s, _: s.type, description="Type of the secret"),
    Column("Data", lambda s, _: len(s.data), "integer", description="Number of values"),
    AGE,
)
