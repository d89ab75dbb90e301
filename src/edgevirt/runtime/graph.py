"""Who reads and who owns which kind, from the declarations alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from edgevirt.runtime.resource import Kind

Entry = tuple[str, Iterable[Kind[Any]], Iterable[Kind[Any]]]
"""A service's (or controller's) name, the kinds that it reads, the kinds that it owns."""

Format = Literal["text", "dot", "mermaid"]


def graph(entries: Iterable[Entry], form: Format = "text") -> str:
    """Every kind with its owner and its declared readers, sorted by owner and name.

    Raises ValueError when two entries own a kind: then nothing below it could be believed.
    """
    owners: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    for name, reads, owns in entries:
        for kind in owns:
            if kind.name in owners:
                raise ValueError(f"{kind.name} is owned by {owners[kind.name]} and by {name}")
            owners[kind.name] = name
        for kind in reads:
            readers.setdefault(kind.name, []).append(name)
    kinds = sorted({*owners, *readers}, key=lambda kind: (owners.get(kind, "?"), kind))
    rows = [(kind, owners.get(kind, "?"), sorted(readers.get(kind, []))) for kind in kinds]
    return {"text": _text, "dot": _dot, "mermaid": _mermaid}[form](rows)


def _text(rows: list[tuple[str, str, list[str]]]) -> str:
    heads = ("KIND", "OWNER", "READERS")
    kind_width = max(len(row[0]) for row in [heads, *rows])
    owner_width = max(len(row[1]) for row in [heads, *rows])
    lines = [f"{heads[0]:{kind_width}}  {heads[1]:{owner_width}}  {heads[2]}"]
    for kind, owner, readers in rows:
        names = ", ".join(readers) or "-"
        lines.append(f"{kind:{kind_width}}  {owner:{owner_width}}  {names}")
    return "\n".join(lines) + "\n"


def _dot(rows: list[tuple[str, str, list[str]]]) -> str:
    lines = ["digraph kinds {", "  rankdir=LR;", "  node [shape=box];"]
    for kind, owner, readers in rows:
        lines += [f'  "{owner}" -> "{reader}" [label="{kind}"];' for reader in readers]
    return "\n".join([*lines, "}"]) + "\n"


def _mermaid(rows: list[tuple[str, str, list[str]]]) -> str:
    lines = ["flowchart LR"]
    for kind, owner, readers in rows:
        lines += [f"  {owner} -->|{kind}| {reader}" for reader in readers]
    return "\n".join(lines) + "\n"
