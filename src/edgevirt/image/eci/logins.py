"""Who one is at a registry: by what `docker login` and its kin wrote, and their helpers."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PATIENCE = 30.0
_MAX = 1 << 20
_DOCKER_HUB = "https://index.docker.io/v1/"


class LoginError(Exception):
    """«cannot log in to X: why». Never holds a secret."""


def login_of(host: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """(user, password) for `HOST[:PORT]`; empty when nothing is known of it. Raises LoginError."""
    names = (_DOCKER_HUB, "docker.io", "index.docker.io") if host == "docker.io" else (host,)
    for path in _files(environment):
        known = _read(path)
        for name in (*names, *(f"https://{name}" for name in names if "/" not in name)):
            helper = known.get("credHelpers", {}).get(name) or known.get("credsStore")
            entry = known.get("auths", {}).get(name)
            if isinstance(entry, dict) and entry.get("auth"):
                return _decode(host, path, str(entry["auth"]))
            if helper and (entry is not None or name in known.get("credHelpers", {})):
                return _ask(host, str(helper), name)
    return "", ""


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    home = environment.get("HOME", "")
    if own := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(own)
    docker = environment.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    if docker:
        yield Path(docker, "config.json")
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers/auth.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            body = msgspec.json.decode(file.read(_MAX), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LoginError(f"cannot read {path}: {error}") from error
    for name in ("auths", "credHelpers"):
        if not isinstance(body.get(name, {}), dict):
            raise LoginError(f"cannot read {path}: {name} is no object")
    return body


def _decode(host: str, path: Path, text: str) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise LoginError(f"cannot log in to {host}: {path} holds no user and password for it")
    return user, password


def _ask(host: str, helper: str, name: str) -> tuple[str, str]:
    """The helper's protocol: the name on its input, JSON on its output."""
    if not _HELPER.fullmatch(helper):
        raise LoginError(f"cannot log in to {host}: a helper called {helper[:40]!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=name.encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        said = msgspec.json.decode(done.stdout, type=dict[str, str]) if not done.returncode else {}
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = type(error).__name__
        raise LoginError(f"cannot log in to {host}: {program} does not answer: {why}") from error
    user, password = said.get("Username", ""), said.get("Secret", "")
    if user == "<token>":
        raise LoginError(f"cannot log in to {host}: {program} has an identity token, no password")
    return user, password
