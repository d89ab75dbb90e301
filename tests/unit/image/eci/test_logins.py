"""Who one is at a registry is read where `docker login` wrote it, and never told."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edgevirt.image.eci.logins import LoginError, login_of


def config(where: Path, **body: Any) -> dict[str, str]:
    (where / "config.json").write_text(json.dumps(body))
    return {"DOCKER_CONFIG": str(where), "HOME": str(where)}


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_login_is_found_by_the_registry_s_host(tmp_path: Path) -> None:
    auths = {
        "registry.example.com:5000": entry("ali", "a:b"),
        "https://index.docker.io/v1/": entry("hub", "x"),
    }
    environment = config(tmp_path, auths=auths)
    assert login_of("registry.example.com:5000", environment) == ("ali", "a:b")
    assert login_of("docker.io", environment) == ("hub", "x")
    assert login_of("registry.example.com", environment) == ("", "")
    assert login_of("registry.example.com", {}) == ("", "")


def helper(where: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = where / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{where}:/usr/bin:/bin")


def test_a_helper_is_asked_for_the_hosts_that_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'read host; echo "{\\"Username\\": \\"ali\\", \\"Secret\\": \\"at-$host\\"}"'
    helper(tmp_path, "test", script, monkeypatch)
    environment = config(tmp_path, credHelpers={"one.example.com": "test"})
    assert login_of("one.example.com", environment) == ("ali", "at-one.example.com")
    assert login_of("two.example.com", environment) == ("", "")
    environment = config(tmp_path, credsStore="test", auths={"two.example.com": {}})
    assert login_of("two.example.com", environment) == ("ali", "at-two.example.com")


def test_a_broken_login_is_refused_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, "sick", "echo sesame", monkeypatch)
    helper(tmp_path, "token", 'echo "{\\"Username\\": \\"<token>\\"}"', monkeypatch)
    for body, why in (
        ({"auths": {"h": {"auth": "c2VzYW1l"}}}, "holds no user and password"),
        ({"auths": {"h": {"auth": "!sesame"}}}, "holds no user and password"),
        ({"auths": []}, "auths is no object"),
        ({"credHelpers": {"h": "../sesame"}}, "a helper called"),
        ({"credHelpers": {"h": "missing"}}, "does not answer"),
        ({"credHelpers": {"h": "sick"}}, "does not answer"),
        ({"credHelpers": {"h": "token"}}, "an identity token"),
    ):
        with pytest.raises(LoginError, match=why) as refused:
            login_of("h", config(tmp_path, **body))
        assert "sesame" not in str(refused.value).replace("../sesame", "")
