"""What a node was given, put where its services find it: each file for those who need it alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edgevirt.node.services import row_of

_PUBLIC: Final = frozenset(
    {"server", "root-certificate.pem", "v2tlsbaseroot-certificates.pem"}
    | {"onboard.cert.pem", "device.cert.pem", "soft_serial", "hosts"}
)
_OWNERS: Final = {
    "onboard.key.pem": "trust",
    "device.key.pem": "trust",
    "tpm_credential": "trust",
    "bootstrap-config.pb": "ports",
    "DevicePortConfig/override.json": "ports",
    "GlobalConfig/global.json": "agent",
}
"""Services that alone may read a file. What is in neither list is for nobody."""


def write_config(files: Mapping[str, bytes], directory: Path) -> None:
    """`files`: contents by name, at most one directory deep. Only root can."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_bytes(content)
        owner = _uid_of(_OWNERS.get(name, ""))
        os.chown(path, owner, 0)
        path.chmod(0o444 if name in _PUBLIC else 0o400)


def _uid_of(service: str) -> int:
    """Root's where this node has no such service."""
    try:
        return row_of(service).uid
    except KeyError:
        return 0
