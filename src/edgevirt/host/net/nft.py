"""The packet filter's one door: whole transactions to the kernel, through the `nft` program.

Rules are given as text of nft's own language. The text is made by pure functions of this package
from addresses, numbers and interface names that were parsed before; no name from outside gets in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import msgspec

_TIMEOUT = 20.0


class FilterError(Exception):
    """The kernel or `nft` refused a transaction; nothing of it was applied."""


class Count(msgspec.Struct, frozen=True):
    """What a named counter holds."""

    packets: int
    bytes: int


class _Counter(msgspec.Struct):
    name: str
    packets: int
    bytes: int


class _Item(msgspec.Struct):
    counter: _Counter | None = None


class _Listing(msgspec.Struct):
    nftables: list[_Item]


def apply(statements: Sequence[str]) -> None:
    """All of `statements` at once, or none of them and FilterError."""
    _nft(["-f", "-"], "\n".join(statements) + "\n")


def remove_table(family: str, name: str) -> None:
    """Also when there is none."""
    apply([f"add table {family} {name}", f"delete table {family} {name}"])


def counters(family: str, table: str) -> dict[str, Count]:
    """The named counters of a table by name; empty when there is no such table."""
    try:
        listing = _nft(["-j", "list", "counters", "table", family, table], "")
    except FilterError as error:
        if "No such file or directory" in str(error):
            return {}
        raise
    items = msgspec.json.decode(listing, type=_Listing).nftables
    return {
        item.counter.name: Count(item.counter.packets, item.counter.bytes)
        for item in items
        if item.counter is not None
    }


def _nft(arguments: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FilterError(f"cannot run nft: {error}") from error
    if done.returncode != 0:
        raise FilterError(f"cannot change the packet filter: {done.stderr.strip()[:500]}")
    return done.stdout
