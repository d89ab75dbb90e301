"""A machine's drives, as QEMU's command line has them, and what a machine boots from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.host.devices import of_machine
from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import BootOrder, Domain, DomainVolume, VirtualizationMode

SEED: Final = 15
FIRST_DISK: Final = 20
"""Numbers of files that are open, as `qemu.Opened` has them."""
_MOST_DISKS: Final = 24
_MOST_IDE: Final = 4
_FLOPPY: Final = "/dev/fd0"
_CDROM: Final = "/dev/cdrom"
_FORMATS: Final = {ContentFormat.RAW: "raw", ContentFormat.QCOW2: "qcow2"}


def check(domain: Domain) -> None:
    """Raises UnfitError."""
    for volume in domain.volumes:
        if volume.format not in (*_FORMATS, ContentFormat.ISO):
            kind = ContentFormat(volume.format).name
            raise UnfitError(f"cannot run: a virtual machine takes no volume of format {kind}")
    if len(domain.volumes) > _MOST_DISKS:
        number = len(domain.volumes)
        raise UnfitError(f"cannot run: it has {number} disks, at most {_MOST_DISKS} fit")
    if domain.mode is VirtualizationMode.LEGACY:
        drives = sum(not _is_floppy(volume) for volume in domain.volumes)
        if drives > _MOST_IDE:
            raise UnfitError(f"cannot run: it has {drives} IDE drives, at most {_MOST_IDE} fit")
    if sum(map(_is_floppy, domain.volumes)) > 1:
        raise UnfitError("cannot run: it has more than one floppy disk")


def name_of(index: int) -> str:
    """Of a volume: as QEMU's monitor calls its drive."""
    return f"disk{index}"


def is_readonly(volume: DomainVolume) -> bool:
    return volume.readonly or _is_cdrom(volume)


def words(domain: Domain, serials: tuple[str, ...], *, seeded: bool) -> Iterator[str]:
    """Disks on virtio; CD-ROMs on the board's own SATA, which installers know. `serials`: of
    disks, in order, if they have any. `seeded`: there is a disk for cloud-init.
    """
    if domain.mode is VirtualizationMode.LEGACY:
        yield from _legacy_words(domain, seeded=seeded)
        return
    for index, volume in enumerate(domain.volumes):
        name = name_of(index)
        yield from ("-drive", _backend(index, volume))
        if _is_floppy(volume):
            boot = _boot_words(domain, index, "bootindexA")
            yield from ("-device", f"isa-fdc,id=floppies{boot}")
            yield from ("-device", f"floppy,drive={name},bus=floppies.0")
        elif _is_cdrom(volume):
            yield from ("-device", f"ide-cd,drive={name}{_boot_words(domain, index)}")
        else:
            serial = f",serial={serials[index]}" if serials else ""
            boot = _boot_words(domain, index)
            yield from ("-device", f"virtio-blk-pci,drive={name}{serial}{boot}")
    if seeded:
        yield from ("-drive", _seed_backend())
        yield from ("-device", "virtio-blk-pci,drive=seed,serial=cidata")


def _legacy_words(domain: Domain, *, seeded: bool) -> Iterator[str]:
    place = 0
    for index, volume in enumerate(domain.volumes):
        name = name_of(index)
        yield from ("-drive", _backend(index, volume))
        if _is_floppy(volume):
            # the board has a controller of its own
            if not domain.kernel:
                yield from ("-global", f"isa-fdc.bootindexA={_boot_place(domain, index)}")
            yield from ("-device", f"floppy,drive={name}")
            continue
        kind = "ide-cd" if _is_cdrom(volume) else "ide-hd"
        where = f"bus=ide.{place // 2},unit={place % 2}"
        yield from ("-device", f"{kind},drive={name},{where}{_boot_words(domain, index)}")
        place += 1
    if seeded and place < _MOST_IDE:
        where = f"bus=ide.{place // 2},unit={place % 2}"
        yield from ("-drive", _seed_backend(), "-device", f"ide-cd,drive=seed,{where}")


def first_plugged(domain: Domain) -> int | None:
    """The place in the order of boot of what is on the first USB socket; the others follow. None:
    the guest does not look for its system there.
    """
    if domain.kernel or domain.boot_order is BootOrder.NO_USB:
        return None
    return 0 if domain.boot_order is BootOrder.USB else len(domain.volumes)


def _boot_place(domain: Domain, index: int) -> int:
    """The first volume boots first, or after what is plugged in."""
    before = len(of_machine.sockets(domain.devices)) if first_plugged(domain) == 0 else 0
    return before + index


def _boot_words(domain: Domain, index: int, name: str = "bootindex") -> str:
    """A kernel takes the place of all."""
    return "" if domain.kernel else f",{name}={_boot_place(domain, index)}"


def _backend(index: int, volume: DomainVolume) -> str:
    kind = _FORMATS.get(ContentFormat(volume.format), "raw")
    readonly = "on" if is_readonly(volume) else "off"
    # opened for writing from the start, else its first descriptor keeps locks that bar a growth
    discard = "" if is_readonly(volume) else ",discard=unmap,auto-read-only=off"
    where = f"file=/dev/fdset/{FIRST_DISK + index}"
    # a full disk is the guest's to see: by default it would stop for good, and silently
    errors = ",werror=report,rerror=report" if not _is_floppy(volume) else ""
    return f"if=none,id={name_of(index)},{where},format={kind},readonly={readonly}{discard}{errors}"


def _seed_backend() -> str:
    return f"if=none,id=seed,file=/dev/fdset/{SEED},format=raw,readonly=on"


def _is_floppy(volume: DomainVolume) -> bool:
    return volume.mount_dir == _FLOPPY


def _is_cdrom(volume: DomainVolume) -> bool:
    return volume.mount_dir == _CDROM or volume.format == ContentFormat.ISO
