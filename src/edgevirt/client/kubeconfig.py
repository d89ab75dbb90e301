"""Where the fleet is and who we are, from kubeconfigs as kubectl reads them."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from edgevirt.client.errors import ClientError
from edgevirt.client.resources import Object

_FILES: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True)
class Connection:
    """Where the fleet is and who we are: one context of a kubeconfig."""

    server: str
    namespace: str
    ca: str
    token: str = ""
    certificate: str = ""
    key: str = ""


def kubeconfig_paths(given: str | None = None) -> tuple[Path, ...]:
    """The file named on the command line, else those of $KUBECONFIG, else `~/.kube/config`."""
    if given:
        return (Path(given),)
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return tuple(named) or (Path.home() / ".kube" / "config",)


def load_connection(*paths: Path, context: str | None = None) -> Connection:
    """From one kubeconfig, or several of which the first to name a thing has the word, as kubectl
    reads them. Raises ClientError when none is there, or they don't say how to connect."""
    entries = _read_kubeconfigs(paths)
    where = os.pathsep.join(map(str, paths))
    name = context or entries.current
    if not name:
        raise ClientError(
            f"cannot use the kubeconfig {where}: it names no current context",
            "choose one with --context",
        )
    chosen = _entry(entries.contexts, "context", name, where)
    cluster = _entry(entries.clusters, "cluster", chosen.get("cluster", ""), where)
    user = _entry(entries.users, "user", chosen.get("user", ""), where)
    server = str(cluster.get("server", ""))
    if not server.startswith("https://"):
        raise ClientError(
            f"cannot use the kubeconfig {where}: its server {server!r} is no https:// address"
        )
    return Connection(
        server=server,
        namespace=chosen.get("namespace") or "default",
        ca=_material(cluster, "certificate-authority", where),
        token=user.get("token", "") or _material(user, "tokenFile", where).strip(),
        certificate=_material(user, "client-certificate", where),
        key=_material(user, "client-key", where),
    )


@dataclass
class _Entries:
    """What kubeconfigs name, by name."""

    contexts: dict[str, Object]
    clusters: dict[str, Object]
    users: dict[str, Object]
    current: str = ""


def _read_kubeconfigs(paths: tuple[Path, ...]) -> _Entries:
    found = _Entries({}, {}, {})
    there = [path for path in paths if path.exists()]
    if not there:
        listed = " or ".join(map(str, paths))
        raise ClientError(
            f"cannot find the fleet: there is no kubeconfig at {listed}",
            "set KUBECONFIG, or make one with `edgevirt fleet init`",
        )
    for path in there:
        try:
            config = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ClientError(f"cannot read the kubeconfig {path}: {_first_line(error)}") from None
        try:
            _add_entries(found, config, path.parent)
        except (KeyError, TypeError, AttributeError):
            raise ClientError(f"cannot use {path}: it is no kubeconfig") from None
    return found


def _add_entries(found: _Entries, config: Object, directory: Path) -> None:
    found.current = found.current or config.get("current-context") or ""
    for held, plural, singular in (
        (found.contexts, "contexts", "context"),
        (found.clusters, "clusters", "cluster"),
        (found.users, "users", "user"),
    ):
        for entry in config.get(plural) or ():
            body = dict(entry[singular])
            for name in _FILES:
                if body.get(name):
                    body[name] = str(directory / body[name])
            held.setdefault(entry["name"], body)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _entry(entries: Mapping[str, Object], what: str, name: str, where: str) -> Object:
    if name in entries:
        return entries[name]
    known = ", ".join(entries) or "none"
    raise ClientError(
        f"cannot use the kubeconfig {where}: it has no {what} {name!r}", f"it has {known}"
    )


def _material(holder: Mapping[str, str], name: str, where: str) -> str:
    """Text given in line (`NAME-data`, base64) or as a file."""
    try:
        if inline := holder.get(f"{name}-data"):
            return base64.b64decode(inline, validate=True).decode()
        if file := holder.get(name):
            return Path(file).read_text()
    except (OSError, binascii.Error, UnicodeDecodeError) as error:
        raise ClientError(f"cannot use the kubeconfig {where}: its {name}: {error}") from None
    return ""
