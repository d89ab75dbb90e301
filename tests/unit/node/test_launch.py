"""A node in host mode, as whoever starts it sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.node.launch import HostNode, _tell_where


def test_who_starts_a_node_is_told_where_to_look_into_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server").write_text("fleet.example:8443\n")
    _tell_where(HostNode(state=tmp_path / "state", config=tmp_path), 17)
    said = capsys.readouterr()
    assert said.out == ""
    assert "calls fleet.example:8443" in said.err
    assert "/proc/17/root/run/edgevirt/run/console/diagnosis" in said.err
    assert "/proc/17/root/run/edgevirt/run/logs" in said.err
