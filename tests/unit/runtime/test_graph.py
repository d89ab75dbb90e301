"""The printed graph is what the declarations say."""

from __future__ import annotations

import pytest

from edgevirt.runtime import Kind
from edgevirt.runtime.graph import graph

CONFIG, STATUS, LOST = Kind("Config", int), Kind("Status", int), Kind("Lost", int)
ENTRIES = [
    ("agent", (STATUS,), (CONFIG,)),
    ("worker", (CONFIG, LOST), (STATUS,)),
    ("logs", (CONFIG,), ()),
]


def test_text_names_owner_and_readers_of_each_kind() -> None:
    assert graph(ENTRIES).splitlines() == [
        "KIND    OWNER   READERS",
        "Lost    ?       worker",
        "Config  agent   logs, worker",
        "Status  worker  agent",
    ]


def test_dot_and_mermaid_have_an_edge_for_each_reader() -> None:
    dot = graph(ENTRIES, "dot")
    assert '"agent" -> "worker" [label="Config"];' in dot
    assert dot.startswith("digraph")
    assert dot.count("->") == 4
    mermaid = graph(ENTRIES, "mermaid")
    assert "agent -->|Config| logs" in mermaid
    assert mermaid.count("-->") == 4


def test_a_kind_with_two_owners_is_refused() -> None:
    with pytest.raises(ValueError, match="Config is owned by agent and by thief"):
        graph([*ENTRIES, ("thief", (), (CONFIG,))])
