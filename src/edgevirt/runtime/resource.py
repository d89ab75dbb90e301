"""What the whole system is made of: typed, frozen values with a kind, a key and a version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
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
    _codec: list[Any] = field(default_factory=list, compare=False, repr=False)

    def encode(self, value: T) -> bytes:
        return _encode(value)

    def decode(self, data: bytes) -> T:
        """Raises msgspec.ValidationError or DecodeError when `data` is not a value of this kind."""
        if not self._codec:
            self._codec.append(msgspec.msgpack.Decoder(self.type))
        value: T = self._codec[0].decode(data)
        return value

    def __hash__(self) -> int:
        return hash(self.name)


_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One value. `version` grows with each change of this key and never repeats within a store."""

    kind: Kind[T]
    key: str
    value: T
    version: int


@dataclass(frozen=True)
class Put(Generic[T]):
    """A key has a (new) value."""

    resource: Resource[T]


@dataclass(frozen=True)
class Gone(Generic[T]):
    """A key was deleted; `resource` is its last value, with the version of the deletion."""

    resource: Resource[T]


@dataclass(frozen=True)
class InStep:
    """The watcher has seen everything that there was: the snapshot is whole.

    After a lost connection it comes again, when what changed and vanished meanwhile was told.
    """

    version: int


Event = Put[T] | Gone[T] | InStep
