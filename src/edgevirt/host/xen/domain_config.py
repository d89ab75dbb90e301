"""A domain as `xl` wants to be told of it. Pure.

Domains are PV, or PVH where the processor helps: both boot a kernel that they are given, and need
no emulated hardware. So nothing of theirs runs in the first domain but a keeper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.domain import Domain, DomainVif, DomainVolume, VirtualizationMode
from edgevirt.model.eci import ContentFormat

DISK_SCRIPT: Final = Path(__file__).parent / "block.sh"
VIF_SCRIPT: Final = Path(__file__).parent / "vif.sh"
_MOST_DISKS: Final = 16
_KIB_IN_MIB: Final = 1024


def write_config(domain: Domain, *, hardware: bool) -> str:
    """`hardware`: whether the processor helps. Raises UnfitError."""
    _check(domain, hardware)
    pvh = domain.mode is VirtualizationMode.HVM
    settings: list[tuple[str, str]] = [
        ("name", _text(domain.name)),
        ("uuid", _text(domain.app)),
        ("type", _text("pvh" if pvh else "pv")),
        ("kernel", _text(domain.kernel)),
    ]
    if domain.ramdisk:
        settings.append(("ramdisk", _text(domain.ramdisk)))
    disks = ",\n  ".join(_text(_disk(i, volume)) for i, volume in enumerate(domain.volumes))
    settings += [
        ("cmdline", _text(domain.kernel_arguments or "console=hvc0")),
        ("memory", str(max(1, domain.memory_kib // _KIB_IN_MIB))),
        ("vcpus", str(max(1, domain.vcpus))),
        ("disk", f"[{disks}]"),
        ("vif", f"[{', '.join(_text(_vif(vif)) for vif in domain.vifs)}]"),
        # the keeper acts on every end
        *((f"on_{end}", _text("preserve")) for end in ("poweroff", "reboot", "crash", "watchdog")),
    ]
    return "".join(f"{name} = {value}\n" for name, value in settings)


def _check(domain: Domain, hardware: bool) -> None:
    if domain.mode not in (VirtualizationMode.PV, VirtualizationMode.HVM):
        raise UnfitError(f"cannot run: Xen runs no machine of mode {domain.mode.name} here")
    if not domain.kernel:
        raise UnfitError("cannot run: Xen's domains boot a kernel that they are given, not a disk")
    if domain.mode is VirtualizationMode.HVM and not hardware:
        raise UnfitError("cannot run: this machine's processor has no hardware virtualization")
    for what, path in (("kernel", domain.kernel), ("RAM disk", domain.ramdisk)):
        if path and not path.startswith("/"):
            raise UnfitError(f"cannot run: its {what} {path!r} is none of its volumes")
    if len(domain.volumes) > _MOST_DISKS:
        raise UnfitError(
            f"cannot run: it has {len(domain.volumes)} disks, at most {_MOST_DISKS} fit"
        )
    for volume in domain.volumes:
        if volume.format not in (ContentFormat.RAW, ContentFormat.ISO):
            kind = ContentFormat(volume.format).name
            raise UnfitError(f"cannot run: Xen takes raw disks, and no volume of format {kind}")


def _disk(index: int, volume: DomainVolume) -> str:
    """`target` comes last: it may hold anything."""
    readonly = volume.readonly or volume.format == ContentFormat.ISO
    letter = chr(ord("a") + index)
    access = "ro" if readonly else "rw"
    how = f"format=raw,backendtype=phy,vdev=xvd{letter},access={access},script={DISK_SCRIPT}"
    return f"{how},target={volume.path}"


def _vif(vif: DomainVif) -> str:
    """`bridge`: the script's; it is the tap."""
    return f"mac={vif.mac},script={VIF_SCRIPT},bridge={vif.host_name}"


def _text(value: str) -> str:
    """Quoted. Raises UnfitError."""
    if not value.isprintable():
        raise UnfitError("cannot run: what is told of it has characters that nobody can print")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
