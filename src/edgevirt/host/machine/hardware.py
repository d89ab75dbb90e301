"""What a machine is made of, for who keeps a list of machines."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from edgevirt.model.installation import Nic

_NET: Final = Path("/sys/class/net")
_EFI: Final = Path("/sys/firmware/efi")
_TPM: Final = Path("/sys/class/tpm/tpm0/tpm_version_major")


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Empty where the kernel doesn't tell, as on most ARM machines."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return ""


def nics(net: Path = _NET) -> tuple[Nic, ...]:
    """Network ports that are hardware."""
    found = []
    for path in sorted(net.iterdir()):
        if (path / "device").exists():
            driver = path / "device/driver"
            name = driver.resolve().name if driver.exists() else ""
            found.append(Nic(path.name, (path / "address").read_text().strip(), name))
    return tuple(found)


def firmware() -> str:
    return "UEFI" if _EFI.exists() else "BIOS"


def tpm_version() -> str:
    """`2` or `1`; empty without a TPM."""
    with contextlib.suppress(OSError):
        return _TPM.read_text().strip()
    return ""
