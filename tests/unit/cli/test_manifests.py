"""Manifests: what is read is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.cli import manifests
from edgevirt.cli.session import Failure

HEAD = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"


def _read(tmp_path: Path, text: str) -> list[Any]:
    (tmp_path / "m.yaml").write_text(text)
    return manifests.read((str(tmp_path / "m.yaml"),))


def test_a_date_stays_the_text_that_it_is(tmp_path: Path) -> None:
    (body,) = _read(tmp_path, HEAD + "stringData: {since: 2026-05-01}\n")
    assert body["stringData"]["since"] == "2026-05-01"


def test_lists_and_empty_documents_are_taken_apart(tmp_path: Path) -> None:
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "y"}}
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [item]})
    bodies = _read(tmp_path, f"---\n---\n{listed}---\n{HEAD}")
    assert [body["metadata"]["name"] for body in bodies] == ["y", "x"]


def test_files_of_a_directory_come_in_order_and_others_are_left(tmp_path: Path) -> None:
    for name in ("20.yml", "10.yaml", "30.json", "readme.md"):
        (tmp_path / name).write_text(HEAD.replace("x}", f"n{name[:2]}}}"))
    (tmp_path / "30.json").write_text(
        '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n30"}}'
    )
    bodies = manifests.read((str(tmp_path),))
    assert [body["metadata"]["name"] for body in bodies] == ["n10", "n20", "n30"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind: [", "cannot read"),
        ("just text", "no object"),
        ("- a", "no object"),
        ("kind: Secret", "no apiVersion"),
        ("apiVersion: v1", "no kind"),
        ("apiVersion: v1\nkind: Secret", "no metadata.name"),
        ("apiVersion: v1\nkind: Secret\nmetadata: x", "no metadata.name"),
        (HEAD + "data: !!binary aGk=", "cannot read"),
        ("apiVersion: v1\nkind: !!python/name:os.system x", "cannot read"),
    ],
)
def test_what_is_no_object_is_refused_with_its_file(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(Failure, match=r"m\.yaml") as failure:
        _read(tmp_path, text)
    assert why in str(failure.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.yaml", "m.yaml"):
        with pytest.raises(Failure, match=name):
            manifests.read((str(tmp_path / name),))


def test_a_directory_without_manifests_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot find a manifest"):
        manifests.read((str(tmp_path),))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _JSON))
def test_what_is_shown_can_be_read_back(body: dict[str, Any]) -> None:
    assert manifests.parse(manifests.to_yaml(body), "it") == [body]


def test_a_name_that_yaml_takes_for_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"metadata\.name of Secret is no text, but false") as failure:
        _read(tmp_path, HEAD.replace("x}", "off}"))
    assert "quote it" in failure.value.hint


def test_broken_yaml_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        _read(tmp_path, "foo: [bar\n")
    assert str(failure.value).endswith(
        "m.yaml: line 2, column 1: expected ',' or ']', but got 'the end'"
    )
