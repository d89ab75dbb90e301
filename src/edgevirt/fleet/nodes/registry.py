"""All machines in memory, packed: who sealed an envelope, and does its node have news.

Columns instead of objects: a machine costs about 500 bytes, its name included, where an object
with a parsed key costs 3,000. A machine's index is its row; rows of machines that went are reused.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.nodes.devices import DEVICE, Device
from edgevirt.runtime import Gone, InStep, Store
from edgevirt.wire import signatures

UNKNOWN: Final = -1
"""Index of no machine."""
NO_HASH: Final = bytes(43)
"""Instead of a config's hash: it has to be looked up."""

_PREFIX: Final = 16
_KEY: Final = signatures.PACKED_KEY_SIZE
_NODE: Final = 16
_EXCHANGE: Final = 16
_HASH: Final = len(NO_HASH)
_UNUSED: Final = 1_000
"""Rows of machines that went rest while so many others go: somebody may be at work with them."""
PARSED_KEYS: Final = 8_192
"""Parsed keys that are kept, at 2.5 kB each; any other costs 14 µs more per request."""


class Registry:
    """One per process. It follows the store; `whole` is set when it has seen all."""

    def __init__(
        self, make_token: Callable[[bytes, int], bytes], parsed_keys: int = PARSED_KEYS
    ) -> None:
        """`make_token`: the integrity token of a node (16 bytes) that attested so many times."""
        self.whole = asyncio.Event()
        self.on_current: Callable[[int], None] | None = None
        """Told when a node has taken its newest config."""
        self._make_token = make_token
        self._most_parsed = parsed_keys
        self._rows: dict[bytes, int] = {}
        self._by_name: dict[str, int] = {}
        self._free: deque[int] = deque()
        self._names: list[str] = []
        self._suffixes = bytearray()
        self._nodes: list[bytes] = []
        self._by_node: dict[bytes, int] = {}
        self._keys = bytearray()
        self._exchanges = bytearray()
        self._configs = bytearray()
        self._current = bytearray()
        self._attested = array("I")
        self._barred: set[int] = set()
        self._seen = array("d")
        self._parsed: dict[int, ec.EllipticCurvePublicKey] = {}

    def __len__(self) -> int:
        return len(self._rows)

    async def follow(self, store: Store) -> None:
        """Never returns."""
        async for event in store.watch(DEVICE):
            if isinstance(event, InStep):
                self.whole.set()
            elif isinstance(event, Gone):
                self.remove(event.resource.value)
            else:
                self.add(event.resource.value)

    def add(self, device: Device) -> int:
        """Also replaces what was known of the same machine."""
        prefix = device.cert_hash[:_PREFIX]
        row = self._rows.get(prefix)
        if row is None:
            row = self._rows[prefix] = self._new_row()
        if self.exchange(row) != _fit(device.exchange_hash):
            self._exchanges[row * _EXCHANGE : (row + 1) * _EXCHANGE] = _fit(device.exchange_hash)
            self.set_config_hash(row, NO_HASH)
        if self._by_name.get(self._names[row]) == row:
            del self._by_name[self._names[row]]
        self._suffixes[row * _PREFIX : (row + 1) * _PREFIX] = device.cert_hash[_PREFIX:]
        self._by_node.pop(self._nodes[row], None)
        self._nodes[row] = device.node
        self._by_node[device.node] = row
        self._keys[row * _KEY : (row + 1) * _KEY] = device.key
        self._attested[row] = 0 if device.barred else device.attested
        (self._barred.add if device.barred else self._barred.discard)(row)
        self._names[row] = device.edge_node
        self._by_name[device.edge_node] = row
        return row

    def remove(self, device: Device) -> None:
        row = self._rows.pop(device.cert_hash[:_PREFIX], None)
        if row is None:
            return
        if self._by_name.get(self._names[row]) == row:
            del self._by_name[self._names[row]]
        self._by_node.pop(self._nodes[row], None)
        self._names[row], self._nodes[row], self._attested[row] = "", b"", 0
        self._parsed.pop(row, None)
        self._barred.discard(row)
        self._free.append(row)

    def find(self, cert_hash: bytes) -> int:
        """The machine whose certificate has this hash (16 or 32 bytes); UNKNOWN for none."""
        row = self._rows.get(cert_hash[:_PREFIX], UNKNOWN)
        if row != UNKNOWN and len(cert_hash) > _PREFIX:
            start = row * _PREFIX
            if self._suffixes[start : start + _PREFIX] != cert_hash[_PREFIX:]:
                return UNKNOWN
        return row

    def find_machine(self, node: bytes) -> int:
        """By the node's UUID, 16 bytes."""
        return self._by_node.get(node, UNKNOWN)

    def find_node(self, edge_node: str) -> int:
        """The machine of an EdgeNode, by its key in the store."""
        return self._by_name.get(edge_node, UNKNOWN)

    def key(self, row: int) -> ec.EllipticCurvePublicKey:
        return self._parsed.get(row) or self._parse(row)

    def token(self, row: int) -> bytes:
        """What a config request must bring; empty before the machine has attested,
        and while it is barred."""
        attested = self._attested[row]
        return self._make_token(self.node(row), attested) if attested else b""

    def barred(self, row: int) -> bool:
        """It attested, and was refused."""
        return row in self._barred

    def node(self, row: int) -> bytes:
        """16 bytes of UUID."""
        return self._nodes[row]

    def name(self, row: int) -> str:
        """Key of its EdgeNode."""
        return self._names[row]

    def exchange(self, row: int) -> bytes:
        """16 bytes: by which the machine named its key exchange certificate; zero: none yet."""
        return bytes(self._exchanges[row * _EXCHANGE : (row + 1) * _EXCHANGE])

    def config_hash(self, row: int) -> bytes:
        """Of the config that the node should have, in ASCII; NO_HASH when that must be found."""
        return bytes(self._configs[row * _HASH : (row + 1) * _HASH])

    def set_config_hash(self, row: int, config_hash: bytes) -> None:
        """43 bytes."""
        self._configs[row * _HASH : (row + 1) * _HASH] = config_hash
        self._current[row] = 0

    def note_current(self, row: int) -> None:
        """The node said that it has the config of `config_hash`."""
        if not self._current[row]:
            self._current[row] = 1
            if self.on_current is not None:
                self.on_current(row)

    def forget_config_hashes(self) -> None:
        """Something that concerns all of them has changed."""
        self._configs[:] = bytes(len(self._configs))
        self._current[:] = bytes(len(self._current))

    def touch(self, row: int, now: float) -> None:
        """The machine was heard of."""
        self._seen[row] = now

    def seen(self, row: int) -> float:
        """When it was last heard of, wall clock; 0: never."""
        return self._seen[row]

    def rows(self) -> Iterator[int]:
        return iter(list(self._rows.values()))

    def seen_since(self, moment: float) -> list[tuple[int, float]]:
        """Machines that were heard of at `moment` or later."""
        return [(row, at) for row, at in enumerate(self._seen) if at >= moment and self._names[row]]

    def load_seen(self, seen: list[tuple[bytes, float]]) -> None:
        """What an earlier process noted, by node; the newer of both stays."""
        for node, at in seen:
            row = self.find_machine(node)
            if row != UNKNOWN and at > self._seen[row]:
                self._seen[row] = at

    def _new_row(self) -> int:
        if len(self._free) > _UNUSED:
            row = self._free.popleft()
            self._seen[row] = 0.0
            self.set_config_hash(row, NO_HASH)
            return row
        row = len(self._names)
        self._names.append("")
        self._suffixes += bytes(_PREFIX)
        self._nodes.append(b"")
        self._keys += bytes(_KEY)
        self._exchanges += bytes(_EXCHANGE)
        self._configs += NO_HASH
        self._current += b"\0"
        self._attested.append(0)
        self._seen.append(0.0)
        return row

    def _parse(self, row: int) -> ec.EllipticCurvePublicKey:
        if len(self._parsed) >= self._most_parsed:
            del self._parsed[next(iter(self._parsed))]
        key = signatures.unpack_key(bytes(self._keys[row * _KEY : (row + 1) * _KEY]))
        self._parsed[row] = key
        return key


def parse_node(text: bytes) -> bytes | None:
    """16 bytes of a UUID in a path; None when it is none."""
    if len(text) != 36:
        return None
    try:
        node = bytes.fromhex(text.replace(b"-", b"").decode("ascii"))
    except ValueError:
        return None
    return node if len(node) == _NODE else None


def _fit(exchange_hash: bytes) -> bytes:
    """Hashes have 16 bytes, or 32 of which 16 tell enough."""
    return exchange_hash[:_EXCHANGE].ljust(_EXCHANGE, b"\0")
