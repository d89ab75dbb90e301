"""What the whole system is made of: typed, frozen values with a kind, a key and a version."""

from __future__ import annotations

import functools
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """A table of values of one type.

    `persistent`: the owner keeps every value on disk; it is there again after a restart.
    `readers`: names of the services that may subscribe besides the owner; None means all of them.
    A kind that carries a secret names its readers.
    `report`: it tells what is, not what should be. Its absence means «not yet», never «delete»,
    so readers need not wait for its owner's first word; two services that report to each other
    would wait for ever.
    """

    name: str
    type: type[T]
    persistent: bool = False
    readers: frozenset[str] | None = None
    report: bool = False

    def encode(self, value: T) -> bytes:
        return _encode(value)

    def decode(self, data: bytes) -> T:
        """Raises msgspec.ValidationError or DecodeError when `data` is not a value of this kind."""
        value: T = _decoder(self.type).decode(data)  # type: ignore[arg-type]  # a type is hashable
        return value

    def __hash__(self) -> int:
        return hash(self.name)


_encode = msgspec.msgpack.Encoder().encode


@functools.cache
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_)


class Resource(msgspec.Struct, Generic[T], frozen=True):
    """One value. `version` grows with each change of this key and never repeats within a store."""

    kind: Kind[T]
    key: str
    value: T
    version: int


class Put(msgspec.Struct, Generic[T], frozen=True):
    """A key has a (new) value."""

    resource: Resource[T]


class Gone(msgspec.Struct, Generic[T], frozen=True):
    """A key was deleted; `resource` is its last value, with the version of the deletion."""

    resource: Resource[T]


class InStep(msgspec.Struct, frozen=True):
    """The watcher has seen everything that there was: the snapshot is whole.

    After a lost connection it comes again, when what changed and vanished meanwhile was told.
    """

    version: int


Event = Put[T] | Gone[T] | InStep
