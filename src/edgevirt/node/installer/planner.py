"""Which disk a node is installed on, and why none is. Pure.

Nothing that anybody may still want is written over unless its disk was named for it. Where the
choice is not plain, the installer does not guess.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.model.disk import (
    MIB,
    P3_LEAST,
    SECTOR,
    SECTORS,
    Content,
    Label,
    Place,
    layout,
    partition,
)
from edgevirt.model.gpt import Entry, usable
from edgevirt.model.installation import DiskFacts, Holds, Order, Plan

_SYSTEM: Final = (Label.BIOS, Label.ESP, Label.IMGA, Label.IMGB, Label.CONFIG)
"""Partitions of an installed disk; the data comes last, in all that is left."""
_OTHERS: Final = {
    "eve_install_skip_config": "leaving CONFIG out",
    "eve_install_skip_persist": "keeping data",
    "eve_install_skip_rootfs": "leaving the system out",
    "eve_install_skip_zfs_checks": "ZFS",
    "eve_install_zfs_with_raid_level": "ZFS",
}
"""What EVE's installer knows and this one does not."""
_FLAGS: Final = {
    "eve_nuke_all_disks": "erase_all",
    "eve_reboot_after_install": "restart",
    "eve_pause_before_install": "pause_before",
    "eve_pause_after_install": "pause_after",
    "eve_blackbox": "record_only",
}
_OFF: Final = frozenset({"0", "false", "no", "off"})


_NOT_BY_BIOS: Final = (
    "its sectors have 4096 bytes, and legacy BIOS starts from no such disk; let the firmware use"
    " UEFI"
)


class Refusal(Exception):
    """«cannot install: why, and what to do about it». Nothing was written."""


# -- what it is told -------------------------------------------------------------------------------


def parse_order(arguments: Mapping[str, str]) -> Order:
    """The kernel's arguments, as EVE names them. Raises Refusal for what cannot be heeded."""
    for name, what in _OTHERS.items():
        if name in arguments:
            raise Refusal(f"cannot install: {name} ({what}) is not supported")
    named = _names(arguments.get("eve_persist_disk", ""))
    if len(named) > 1:
        raise Refusal("cannot install: data can be on one disk only (eve_persist_disk)")
    flags = {field: _is_on(arguments, name) for name, field in _FLAGS.items()}
    return Order(
        disk="".join(_names(arguments.get("eve_install_disk", ""))[:1]),
        persist="".join(named),
        erase=frozenset(_names(arguments.get("eve_nuke_disks", ""))),
        server=arguments.get("eve_install_server", ""),
        soft_serial=arguments.get("eve_soft_serial", ""),
        **flags,
    )


def _names(text: str) -> list[str]:
    return [word.strip().removeprefix("/dev/") for word in text.split(",") if word.strip()]


def _is_on(arguments: Mapping[str, str], name: str) -> bool:
    return name in arguments and arguments[name].lower() not in _OFF


def soft_serial(order: Order, config: Mapping[str, bytes]) -> str:
    """Told, or given with CONFIG (its files), or a new one."""
    given = config.get("soft_serial", b"").decode(errors="replace").strip()
    return order.soft_serial or given or str(uuid.uuid4())


def told_files(order: Order, serial: str) -> dict[str, bytes]:
    """Files of the installed CONFIG that come in place of the medium's."""
    told = {"soft_serial": f"{serial}\n".encode()}
    if order.server:
        told["server"] = f"{order.server}\n".encode()
    return told


# -- which disk ------------------------------------------------------------------------------------


def choose(order: Order, disks: Iterable[DiskFacts], *, uefi: bool = True) -> Plan:
    """`uefi`: what starts this machine; otherwise legacy BIOS. Raises Refusal."""
    found = {disk.name: disk for disk in disks}
    for name in sorted({order.disk, order.persist, *order.erase} - {""}):
        if name not in found:
            raise Refusal(f"cannot install: there is no disk {name}; there {_are(found)}")
    for name in sorted(order.erase):
        if found[name].used:
            raise Refusal(f"cannot erase {_device(found[name])}: it is the installer's own medium")
    if order.disk:
        target = _told(order, found[order.disk], _least(order, found[order.disk]))
    else:
        target = _only(order, found.values(), uefi=uefi)
    if target.sector != SECTOR and not uefi:
        raise Refusal(f"cannot install on {_device(target)}: {_NOT_BY_BIOS}")
    persist = target
    if order.persist and order.persist != target.name:
        persist = _told(order, found[order.persist], P3_LEAST + 2 * MIB)
    chosen = {target.name, persist.name}
    others = tuple(n for n in sorted(found) if n not in chosen and _may_erase(order, found[n]))
    return Plan(target.name, persist.name, others)


def least_size(*, persist_elsewhere: bool = False) -> int:
    """Bytes that a disk must have."""
    system = sum(partition(label).size for label in _SYSTEM)
    return system + (0 if persist_elsewhere else P3_LEAST) + 2 * MIB


def _told(order: Order, disk: DiskFacts, least: int) -> DiskFacts:
    why = _why_not(order, disk, least)
    if why:
        raise Refusal(f"cannot install on {_device(disk)}: {why}")
    return disk


def _only(order: Order, disks: Iterable[DiskFacts], *, uefi: bool) -> DiskFacts:
    """The one disk that can be taken."""
    reasons, fitting = [], []
    for disk in disks:
        if disk.used or disk.name == order.persist:
            continue
        why = "it can be pulled out" if disk.removable else ""
        why = why or ("" if uefi or disk.sector == SECTOR else _NOT_BY_BIOS)
        why = why or _why_not(order, disk, _least(order, disk))
        if why:
            reasons.append(f"{_device(disk)}: {why}")
        else:
            fitting.append(disk)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(disk.name for disk in fitting)
        raise Refusal(f"cannot choose a disk: {names} would do; say eve_install_disk=<name>")
    if not reasons:
        raise Refusal("cannot install: there is no disk but the installer's own")
    if len(reasons) == 1:
        raise Refusal(f"cannot install on {reasons[0]}")
    raise Refusal(f"cannot install on any disk; {'; '.join(reasons)}")


def _why_not(order: Order, disk: DiskFacts, least: int) -> str:
    if disk.used:
        return "it is the installer's own medium"
    if disk.read_only:
        return "it cannot be written"
    if disk.sector not in SECTORS:
        known = " or ".join(map(str, SECTORS))
        return f"its sectors have {disk.sector} bytes; a node's disk has {known}"
    if disk.size < least:
        return f"it has {disk.size // MIB} MiB; a node needs {-(-least // MIB)}"
    if disk.holds.is_free or _may_erase(order, disk):
        return ""
    content = disk.content or disk.holds.value
    return f"it holds {content}; say eve_nuke_disks={disk.name} to erase it"


def _least(order: Order, disk: DiskFacts) -> int:
    return least_size(persist_elsewhere=order.persist not in ("", disk.name))


def _may_erase(order: Order, disk: DiskFacts) -> bool:
    """`eve_nuke_all_disks` means those that are built in."""
    if disk.used or disk.read_only:
        return False
    return disk.name in order.erase or (order.erase_all and not disk.removable)


def _are(found: Mapping[str, DiskFacts]) -> str:
    names = sorted(name for name, disk in found.items() if not disk.used)
    return f"are {', '.join(names)}" if len(names) > 1 else f"is {names[0] if names else 'none'}"


def _device(disk: DiskFacts) -> str:
    return f"/dev/{disk.name}"


# -- what goes where -------------------------------------------------------------------------------


class Laid(msgspec.Struct, frozen=True):
    """A disk as it will be: where each partition lies, and what its table says."""

    places: Mapping[Label, Place]
    entries: tuple[Entry, ...]


def lay_out(
    size: int,
    *,
    system: bool,
    data: bool,
    sector: int = SECTOR,
    new_guid: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> Laid:
    """Of a disk of `size` bytes, in sectors of `sector`. `system`: it boots; `data`: it has P3, in
    all that is left. What legacy BIOS starts has its place on disks that it can start from.
    """
    last = usable(size, sector)[1]
    end = (last + 1) * sector // MIB * MIB
    labels = _SYSTEM if system else ()
    places = {
        place.row.label: place
        for place in layout(labels)
        if sector == SECTOR or place.row.content is not Content.CORE
    }
    if data:
        start = max((place.start + place.size for place in places.values()), default=MIB)
        places[Label.P3] = Place(partition(Label.P3), start, end - start)
    return Laid(places, tuple(_entry(place, new_guid(), sector) for place in places.values()))


def _entry(place: Place, guid: str, sector: int) -> Entry:
    first, last = place.start // sector, (place.start + place.size) // sector - 1
    return Entry(place.row.number, place.row.type, guid, first, last, place.row.label, sector)


# -- what it holds ---------------------------------------------------------------------------------

MARK: Final = b"edgevirt: an installation was begun here and is not finished.\n"
"""In place of the first sector until all the rest is written: no firmware boots it."""
_NODE: Final = frozenset({Label.IMGA, Label.IMGB, Label.P3})
_SIGNATURES: Final = (
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"hsqs", "a squashfs image"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"LABELONE", "an LVM volume"),
    (536, b"LVM2", "an LVM volume"),
    (1080, b"\x53\xef", "an ext4 file system"),
    (4086, b"SWAPSPACE2", "a swap area"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (65600, b"_BHRfS_M", "a btrfs file system"),
)
"""Offset, bytes, what it is. Only to be told: what is not known here is not free either."""


def judge(
    head: bytes, tail: bytes, entries: tuple[Entry, ...] | None, has_old_table: bool
) -> tuple[Holds, str]:
    """What a disk holds, and that in words.

    `head`, `tail`: its first and last mebibyte; `entries`: of its partition table, None without.
    """
    if head.startswith(MARK):
        return Holds.UNFINISHED, Holds.UNFINISHED.value
    if entries is not None:
        return _judge_table(entries)
    if has_old_table:
        return Holds.OLD_TABLE, Holds.OLD_TABLE.value
    if not head.strip(b"\0") and not tail.strip(b"\0"):
        return Holds.NOTHING, ""
    for offset, signature, what in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return Holds.CONTENT, what
    return Holds.CONTENT, "data that is not known"


def _judge_table(entries: tuple[Entry, ...]) -> tuple[Holds, str]:
    labels = {entry.label for entry in entries if _is_ours(entry)}
    if Label.INSTALLER in labels:
        return Holds.INSTALLER, Holds.INSTALLER.value
    if labels & _NODE:
        return Holds.NODE, Holds.NODE.value
    if not entries:
        return Holds.NOTHING, "an empty partition table"
    names = ", ".join(sorted(entry.label or entry.type for entry in entries)[:4])
    return Holds.PARTITIONS, f"{Holds.PARTITIONS.value} ({names})"


def _is_ours(entry: Entry) -> bool:
    return any(entry.label == label and entry.type == partition(label).type for label in Label)
