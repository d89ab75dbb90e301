"""Whose each directory is, and who else may look into it. Made before any service runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.vault import mark_new
from edgevirt.node.paths import Paths
from edgevirt.node.service import Service, Settings
from edgevirt.node.services import ROWS, row_of

_ROOT: Final = ""


class Place(msgspec.Struct, frozen=True):
    """`path`: a name of Paths. `owner`, `group`: services; empty: root. `vault`: it is in there."""

    path: str
    owner: str = _ROOT
    group: str = _ROOT
    mode: int = 0o711
    vault: bool = False


PLACES: Final = (
    Place("persist"),
    Place("kinds"),
    Place("checkpoint", "agent", "agent", 0o700),
    Place("keys", "trust", "trust", 0o700),
    Place("vaults", "trust", "trust"),
    Place("system_downloads", "downloader", "downloader", 0o2770),
    Place("system_blobs", "verifier", "verifier", 0o2750),
    Place("system_layers", "verifier", "verifier", 0o700),
    Place("vault", "trust", "trust", vault=True),
    # the group is inherited by what is made in a directory with the setgid bit
    Place("downloads", "downloader", "downloader", 0o2770, vault=True),
    Place("blobs", "verifier", "verifier", 0o2750, vault=True),
    # setuid programs of images lie below: nobody else may pass
    Place("layers", "verifier", "verifier", 0o700, vault=True),
    Place("volumes", "volumes", "volumes", 0o700, vault=True),
    Place("packed", "volumes", "volumes", 0o700, vault=True),
    Place("console_logs", _ROOT, "logs", 0o750, vault=True),
    Place("firmware", mode=0o700, vault=True),
    Place("tpms", mode=0o700, vault=True),
    Place("machine_states", mode=0o700, vault=True),
    Place("newlog", "logs", "logs", 0o750),
    Place("run"),
    # each service makes its sockets here; nobody removes another's, nobody lists them
    Place("sockets", mode=0o1733),
    Place("netns", "networks", "networks", 0o755),
    Place("networks", "networks", "networks", 0o755),
    Place("ingested", "ports", "ports", 0o700),
    Place("ports", "ports", "ports", 0o755),
    Place("names", "ports", "ports", 0o755),
    Place("console", "console", "console", 0o755),
    Place("domains", mode=0o700),
    Place("doors", _ROOT, "access", 0o750),
    Place("machines", mode=0o700),
    Place("service_logs", "logs", "logs", 0o700),
)

_SEEN_IN_ETC: Final = ("hosts", "resolv.conf")
"""Made by who started the node; the ports service writes them from then on."""
OPEN_DEVICES: Final = (Path("/dev/net/tun"), Path("/dev/kvm"))
"""Anybody may open them, as udev has it elsewhere: what a use of them takes is asked for then."""


def prepare(paths: Paths, services: Iterable[Service], settings: Settings) -> None:
    """Makes them, or puts right what they have become. Idempotent; only root can."""
    for opened in OPEN_DEVICES:
        with suppress(OSError):  # it is not there, or not ours: the service that needs it says so
            opened.chmod(0o666)
    _make_places(paths, vault=False)
    if paths.tpm.exists():
        uid = _uid("trust")
        os.chown(paths.tpm, uid, uid)
        paths.tpm.chmod(0o600)
    for name in _SEEN_IN_ETC:
        if (paths.names / name).exists():
            os.chown(paths.names / name, _uid("ports"), _uid("ports"), follow_symlinks=False)
    for service in services:
        for kind in service.owns:
            if kind.persistent:
                uid = _uid(service.name)
                _make(paths.kinds / kind.name, uid, uid, 0o700)
    for label, device in settings.partitions:
        _give_partition(Path(device), label, settings.slot)


def _give_partition(device: Path, label: str, running: str) -> None:
    """To the one service that may write to it; the slot that runs can only be read."""
    owners = [row.uid for row in ROWS if label in row.partitions]
    if not owners:
        return
    if label == running:
        os.chown(device, 0, owners[0])
        device.chmod(0o640)
    else:
        os.chown(device, owners[0], 0)
        device.chmod(0o600)


def prepare_vault(paths: Paths) -> None:
    """As `prepare`, for what lies in the vault, once it is open."""
    _make_places(paths, vault=True)


def _make_places(paths: Paths, *, vault: bool) -> None:
    for place in PLACES:
        if place.vault is vault:
            path = getattr(paths, place.path)
            new = vault and not path.exists()
            _make(path, _uid(place.owner), _uid(place.group), place.mode)
            if new:
                mark_new(path)


def _uid(service: str) -> int:
    """A service's user and group have one number."""
    return row_of(service).uid if service else 0


def _make(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    present = path.stat()
    if (present.st_uid, present.st_gid) != (uid, gid):
        os.chown(path, uid, gid, follow_symlinks=False)
    if stat.S_IMODE(present.st_mode) != mode:
        path.chmod(mode)
