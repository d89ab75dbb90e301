"""What this machine is and how busy it is, read from the kernel's own files."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from edgevirt.model.machine import DiskUse, Inventory, Measures
from edgevirt.model.network import InterfaceCounters

_DMI = Path("/sys/class/dmi/id")
_NET = Path("/sys/class/net")
_WATCHDOGS = Path("/sys/class/watchdog")
_TICKS = os.sysconf("SC_CLK_TCK")


def inventory(state: Path, serial: str) -> Inventory:
    """`state`: a directory on the file system that the node keeps its data on."""
    return Inventory(
        architecture=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory()["MemTotal"],
        storage=shutil.disk_usage(state).total,
        hostname=os.uname().nodename,  # `platform` remembers the name of before
        kernel=platform.release(),
        manufacturer=_dmi("sys_vendor"),
        product=_dmi("product_name"),
        product_version=_dmi("product_version"),
        serial=serial,
        uuid=_dmi("product_uuid"),
        bios_vendor=_dmi("bios_vendor"),
        bios_version=_dmi("bios_version"),
        bios_date=_dmi("bios_date"),
    )


def measures(state: Path, at: float) -> Measures:
    """`at`: wall clock to stamp it with."""
    memory = _memory()
    usage = shutil.disk_usage(state)
    return Measures(
        at=at,
        uptime=float(Path("/proc/uptime").read_text().split()[0]),
        cpu_ns=_cpu_ns(),
        memory_total=memory["MemTotal"],
        memory_available=memory["MemAvailable"],
        disks=(
            DiskUse(
                device="", mount="/persist", total=usage.total, used=usage.used, free=usage.free
            ),
        ),
        counters=tuple(_counters(name) for name in ports()),
    )


def ports() -> tuple[str, ...]:
    """Names of this network namespace's physical or uplink interfaces: no bridge, no app's end."""
    names = sorted(path.name for path in _NET.iterdir())
    return tuple(name for name in names if name.startswith(("eth", "en", "wl")))


def has_watchdog() -> bool:
    """A watchdog that is more than this kernel's own timer."""
    names = [_text(path / "identity") for path in sorted(_WATCHDOGS.glob("watchdog*"))]
    return any(name and "software" not in name.lower() for name in names)


def _memory() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def _cpu_ns() -> int:
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) * 1_000_000_000 // _TICKS


def _counters(name: str) -> InterfaceCounters:
    def count(what: str) -> int:
        return int(_text(_NET / name / "statistics" / what) or 0)

    return InterfaceCounters(
        name=name,
        rx_bytes=count("rx_bytes"),
        tx_bytes=count("tx_bytes"),
        rx_packets=count("rx_packets"),
        tx_packets=count("tx_packets"),
        rx_drops=count("rx_dropped"),
        tx_drops=count("tx_dropped"),
    )


def _dmi(name: str) -> str:
    return _text(_DMI / name)


def _text(path: Path) -> str:
    """Empty where the machine doesn't tell, or doesn't tell us."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
