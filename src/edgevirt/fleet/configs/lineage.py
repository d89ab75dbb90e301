"""Whether the config that a node has is one that this store knows of.

A config's hash begins with its number, which only grows for each node, and nodes send it back as
they got it. A number that the store has not reached yet was given by a fleet that has lost its
memory since: the store is an older copy. What such a node has beyond it, nobody here knows, and a
config made of it would make the node delete it; so it is held back until people say otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.fleet.objects.base.object import timestamp
from edgevirt.runtime import Kind, Store

_HASH_SIZE: Final = 43
_NUMBERED: Final = re.compile(rb"(\d{1,15})\.[\w-]{20,41}")
"""The older form, a digest alone, has no dot."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """`mark`: what people name to let the config go: the hash that the node showed, or, from a
    restore until the node shows one, when that was."""

    mark: str
    since: float


class ConfigVersion(msgspec.Struct, frozen=True, array_like=True):
    """The last config that a node could have got. Key: the node's UUID.

    `inputs`: digest of what it was made of; `content`: of the config less version and time.
    `held`: nothing newer goes to the node.
    """

    number: int
    timestamp: float
    config_hash: bytes
    content: bytes
    inputs: bytes
    held: Held | None = None


CONFIG_VERSION: Final = Kind("ConfigVersion", ConfigVersion, persistent=True)
NONE_YET: Final = ConfigVersion(0, 0.0, b"", b"", b"")


def make_hash(number: int, timestamp: float, content: bytes) -> bytes:
    """ASCII, as long as any other."""
    digest = hashlib.sha256(content + f"{number} {timestamp}".encode()).digest()
    return (b"%d." % number + base64.urlsafe_b64encode(digest))[:_HASH_SIZE]


def number_of(config_hash: bytes) -> int | None:
    """None: it has another form."""
    found = _NUMBERED.fullmatch(config_hash)
    return int(found[1]) if found else None


def judge(last: ConfigVersion, known: bytes, now: float) -> ConfigVersion:
    """`last` once the node showed the hash `known`; empty: of none."""
    if not known:
        return last
    number = number_of(known)
    if known == last.config_hash or (number is not None and number < last.number):
        return replace(last, held=None)
    if number is None:
        return last
    mark = known.decode()
    same = last.held is not None and last.held.mark == mark
    return last if same else replace(last, held=Held(mark, now))


def let_go(last: ConfigVersion) -> ConfigVersion:
    """People agreed: the next version goes beyond what the node has."""
    number = number_of(last.held.mark.encode()) if last.held else None
    return replace(NONE_YET, number=max(last.number, number or 0), timestamp=last.timestamp)


async def hold_all(store: Store, now: float) -> int:
    """After a restore: what nodes have is only known again once each shows it. How many there are.

    Needed for nodes that forget the hash when they restart, as EVE does.
    """
    held = Held(f"restored-{timestamp(now)}", now)
    present = await store.list(CONFIG_VERSION)
    for key, resource in present.items():
        await store.put(CONFIG_VERSION, key, replace(resource.value, held=held))
    return len(present)
