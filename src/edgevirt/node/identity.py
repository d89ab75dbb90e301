"""A software identity is kept on CONFIG too, so that a lost data partition makes no other node.

Only of a machine without a security module: with one, the key never leaves it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.disk.config_partition import write_file
from edgevirt.node.paths import Paths

_LOG: Final = logging.getLogger("edgevirt.supervisor")
_MODULE: Final = Path("/dev/tpmrm0")
_NAMES: Final = ("device.cert.pem", "device.key.pem")
"""As EVE has them. The key last: it is what counts."""


class Identity(msgspec.Struct, frozen=True):
    """`device`: of CONFIG; None: there is none. `given`: what CONFIG held at the start."""

    device: str | None
    given: Mapping[str, bytes]
    paths: Paths
    module: Path = _MODULE
    write: Callable[[Path, str, bytes], None] = write_file

    def keep(self) -> bool:
        """Blocks. True when there is nothing left to do; else it is worth another call."""
        if self.device is None or _NAMES[1] in self.given or self.module.exists():
            return True
        try:
            found = {name: (self.paths.keys / name).read_bytes() for name in _NAMES}
        except OSError:
            return False
        for name, content in found.items():
            try:
                self.write(Path(self.device), name, content)
            except FileExistsError:
                continue
            except OSError as error:
                _LOG.error("cannot keep the identity on CONFIG: %s; tried again", error)
                return False
        _LOG.info("the identity is kept on CONFIG")
        return True
