"""Config properties as services use them: the applied value, or what EVE takes without one."""

from __future__ import annotations

from edgevirt.model.kinds import PROPERTY
from edgevirt.runtime import Inputs

DEFAULTS = {
    "app.boot.order": "",
    "blob.download.max.retries": "5",
    "datastore.http.security.allowinsecureauth": "false",
    "force.fallback.counter": "0",
    "memory.apps.ignore.check": "false",
    "memory.eve.limit.MiB": "0",  # computed from the machine's size
    "network.fallback.any.eth": "disabled",
    "newlog.gzipfiles.ondisk.maxmegabytes": "2048",
    "storage.apps.ignore.disk.check": "false",
    "storage.dom0.disk.maxusagebytes": str(2 * 1024**3),
    "storage.dom0.disk.minusage.percent": "20",
    "timer.boot.retry": "600",
    "timer.config.interval": "60",
    "timer.defer.content.delete": "0",
    "timer.download.retry": "600",
    "timer.download.stalled": "600",
    "timer.gc.vdisk": "3600",
    "timer.port.testbetterinterval": "600",
    "timer.port.testduration": "30",
    "timer.port.testinterval": "300",
    "timer.port.timeout": "15",
    "timer.reboot.no.network": "604800",
    "timer.test.baseimage.update": "600",
    "timer.update.fallback.no.network": "300",
    "timer.vault.ready.cutoff": "300",
}
"""As in EVE's docs/CONFIG-PROPERTIES.md; seconds where it is a timer."""


def number(inputs: Inputs, name: str) -> int:
    """`name` is one of DEFAULTS; the reader declares PROPERTY. The agent judged the bounds."""
    applied = inputs.get(PROPERTY, name)
    if applied is not None and applied.value.isdecimal():
        return int(applied.value)
    return int(DEFAULTS[name])


def text(inputs: Inputs, name: str) -> str:
    """As `number`."""
    applied = inputs.get(PROPERTY, name)
    return DEFAULTS[name] if applied is None else applied.value


def flag(inputs: Inputs, name: str) -> bool:
    """As `number`."""
    return text(inputs, name).lower() == "true"
