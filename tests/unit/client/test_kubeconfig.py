"""Kubeconfigs are read as kubectl reads them, and failures say what next."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgevirt.client.errors import ClientError
from edgevirt.client.kubeconfig import Connection, load_connection


def kubeconfig(path: Path, name: str = "one", **user: Any) -> Path:
    config = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"}}],
        "users": [{"name": name, "user": user or {"token": f"token of {name}"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_the_current_context_says_where_and_who(tmp_path: Path) -> None:
    found = load_connection(kubeconfig(tmp_path / "a"))
    assert found == Connection("https://one.example:6443", "default", "", "token of one")


def test_of_several_files_the_first_has_the_word_and_all_are_known(tmp_path: Path) -> None:
    files = (tmp_path / "absent", kubeconfig(tmp_path / "a"), kubeconfig(tmp_path / "b", "two"))
    assert load_connection(*files).server == "https://one.example:6443"
    assert load_connection(*files, context="two").server == "https://two.example:6443"


def test_files_are_found_beside_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "my-token").write_text("secret\n")
    found = load_connection(kubeconfig(tmp_path / "a", tokenFile="my-token"))
    assert found.token == "secret"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no kubeconfig"),
        ("[]", "it is no kubeconfig"),
        ("{", "cannot read"),
        ("contexts: [{name: a}]", "it is no kubeconfig"),
        ("contexts: []", "it names no current context"),
        ("current-context: a", "it has no context 'a'"),
        ("current-context: a\ncontexts: [{name: a, context: {}}]", "it has no cluster ''"),
    ],
)
def test_a_file_that_says_too_little_is_named_with_what_it_lacks(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ClientError, match="config") as failure:
        load_connection(tmp_path / "config")
    assert why in str(failure.value)


def test_a_password_is_not_sent_in_clear(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "a")
    path.write_text(path.read_text().replace("https://", "http://"))
    with pytest.raises(ClientError, match="no https:// address"):
        load_connection(path)


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "%%%"},
        {"client-certificate-data": base64.b64encode(b"\xff").decode()},
        {"client-certificate": "absent.pem"},
    ],
)
def test_unusable_material_is_told_not_thrown(tmp_path: Path, user: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="its client-certificate"):
        load_connection(kubeconfig(tmp_path / "a", **user))
