"""What a noun does not model, kept beside it so that nothing is lost on the way back.

A noun's `rest` is its message less the modelled fields: protobuf keeps fields that it does not know
in the same bytes. A modelled list of small messages stays if one of them holds more than the noun
says; on the way back each is found again by what the noun does say of it.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from edgevirt.wire.errors import Reason, WireError

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=enum.IntEnum)


class ConvertError(WireError):
    """A config that cannot be read. It is refused as a whole: a part that is left out would look
    like one to be deleted."""


def copy_without(message: M, *modelled: str) -> M:
    """A copy less these fields, unknown ones included."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in modelled:
        copy.ClearField(name)
    return copy


def pack(leftover: Message) -> bytes:
    """The same bytes for the same content."""
    return leftover.SerializeToString(deterministic=True)


def unpack(kind: type[M], rest: bytes) -> M:
    try:
        return kind.FromString(rest)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise ConvertError(Reason.MALFORMED, f"cannot read rest of {name}: {error}") from error


def forget(message: Message, parts: Sequence[str], modelled: Sequence[str]) -> None:
    """Clear these fields of these parts, and a part that held nothing besides."""
    for name in parts:
        if not message.HasField(name):
            continue
        part = getattr(message, name)
        before = part.ByteSize()
        for field in modelled:
            part.ClearField(field)
        if before and not part.ByteSize():
            message.ClearField(name)


def leave(elements: Sequence[M], modelled: Sequence[str], into: Any) -> None:
    """Leave the elements in `into`, a list field of the rest, if any holds more than `modelled`."""
    if any(copy_without(element, *modelled).ByteSize() for element in elements):
        into.extend(elements)


def restore(left: Any, modelled: Sequence[str], wanted: Iterable[M]) -> None:
    """Fill the list field `left` with `wanted`, each with what was left of it."""
    known: dict[bytes, list[M]] = {}
    for element in left:
        known.setdefault(pack(_only(element, modelled)), []).append(element)
    filled = []
    for element in wanted:
        same = known.get(pack(element))
        filled.append(same.pop(0) if same else element)
    del left[:]
    left.extend(filled)


def identity(text: str, what: str) -> str:
    """The canonical form of an object's own UUID. It becomes a key and a file name."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ConvertError(
            Reason.MALFORMED, f"cannot read {what}: its id {text[:64]!r} is no UUID"
        ) from None


def reference(text: str) -> str:
    """Another object's id as its owner spells it. One that leads nowhere is found out later."""
    return text.strip().lower()


def enum_of(kind: type[E], number: int, what: str) -> E:
    """The node's own name of a wire number; one that it doesn't know it cannot obey."""
    try:
        return kind(number)
    except ValueError:
        raise ConvertError(
            Reason.MALFORMED, f"cannot read {what}: {kind.__name__} {number} is not known"
        ) from None


def _only(message: M, fields: Sequence[str]) -> M:
    chosen = copy_without(
        message, *(f.name for f in message.DESCRIPTOR.fields if f.name not in fields)
    )
    chosen.DiscardUnknownFields()
    return chosen
