"""Port configs that the node was given as files: the bootstrap config, and an override."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.model.port_config import port_config
from edgevirt.model.ports import PortConfig, PortSource
from edgevirt.node.paths import Paths
from edgevirt.wire.bootstrap import BOOTSTRAP_MAX, BootstrapError, open_bootstrap
from edgevirt.wire.override import OVERRIDE_MAX, OverrideError, parse_override

_LOG: Final = logging.getLogger("edgevirt.ports")


class Given(msgspec.Struct, frozen=True):
    """`error`: why the bootstrap config is not used."""

    configs: tuple[PortConfig, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    """That apply until the controller's do."""
    error: str = ""


def read_given(paths: Paths, now: float) -> Given:
    """What there is to offer at a start. A bootstrap config's ports count once: what was learnt
    since is better; its properties until there is a config. Beside one, an override counts for
    nothing (as in EVE)."""
    raw = _read(paths.bootstrap_config, BOOTSTRAP_MAX)
    if raw is None:
        return Given(configs=_override(paths, now))
    digest = hashlib.sha256(raw).hexdigest()
    taken = _read(paths.ingested / _SHA, 100) == digest.encode()
    try:
        root = paths.root_certificate.read_bytes()
        found = open_bootstrap(raw, root, now)
        config = port_config(PortSource.BOOTSTRAP, found.at or now, found.ports, found.networks)
    except (BootstrapError, OSError) as error:
        _LOG.error("%s", error)
        return Given(error=str(error))
    if config is None:
        return Given(error="cannot use the bootstrap config: it names no ports")
    return Given(configs=() if taken else (config,), properties=found.properties)


_SHA: Final = "bootstrap-config.sha"


def remember_bootstrap(paths: Paths) -> None:
    """It was taken into the list, which is on disk: not again. Durable on return."""
    raw = _read(paths.bootstrap_config, BOOTSTRAP_MAX)
    if raw is None:
        return
    part = paths.ingested / f".{_SHA}.part"
    with part.open("w") as file:
        file.write(hashlib.sha256(raw).hexdigest())
        file.flush()
        os.fsync(file.fileno())
    part.rename(paths.ingested / _SHA)


def _override(paths: Paths, now: float) -> tuple[PortConfig, ...]:
    raw = _read(paths.override, OVERRIDE_MAX)
    if raw is None:
        return ()
    try:
        return (parse_override(raw, min(now, paths.override.stat().st_mtime)),)
    except (OverrideError, OSError) as error:
        _LOG.error("%s", error)
        return ()


def _read(path: Path, most: int) -> bytes | None:
    """None: there is no such file, or it can't be read. One byte more than `most` at most."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        if path.exists():
            _LOG.error("cannot read %s: %s", path.name, error)
        return None
