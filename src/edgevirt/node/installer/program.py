"""The installer: looks at the machine, decides, writes, verifies, and records what it found.

It runs as process 1 of the root image that it installs, from a medium that it never writes to but
for the record. What it does it says on the console. Nothing is asked: it is told by arguments.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.boot import console, early
from edgevirt.host.disk.config_partition import read_config
from edgevirt.host.disk.fat_files import FatFilesError, copy_volume, put_files, remove_files
from edgevirt.host.disk.partitions import BootDisk, DiskError, Found, boot_disk
from edgevirt.host.disk.table import read_table
from edgevirt.host.disk.whole_disks import WholeDisk, await_disks, read_ends
from edgevirt.host.disk.writer import DiskWriter, Piece, WriteError, open_writer
from edgevirt.host.machine import hardware, readings
from edgevirt.host.tpm.remembered import read_remembered
from edgevirt.model.disk import BOOT_CODE, MIB, SECTOR, TAIL_ALIGN, TAIL_SIZE, Label, Place
from edgevirt.model.gpt import TableError, format_table, has_old_table
from edgevirt.model.installation import Carried, DiskFacts, Holds, Order, Plan, Record
from edgevirt.node.installer.planner import (
    MARK,
    Laid,
    Refusal,
    choose,
    judge,
    lay_out,
    parse_order,
    soft_serial,
    told_files,
)
from edgevirt.node.installer.records import files_of, fingerprint, folder_of, told_lines

_DISKS_SECONDS: Final = 30.0
_READ_SECONDS: Final = 600.0
"""That a refusal stays on the screen when nobody presses Enter."""
_PAUSE_SECONDS: Final = 24 * 3600.0
_DATA_CLEARED: Final = 4 * MIB
"""At either end of P3, which the node's first start formats when it finds nothing in it."""
_VOLUMES: Final = Path("/run/edgevirt")
_CONFIG_IMAGE: Final = _VOLUMES / "config.img"
_TPM: Final = Path("/dev/tpmrm0")
_FOR_INSTALLER: Final = ("installer.cfg",)
"""Files of CONFIG that an installed node does not get."""
_FAILURES: Final = (Refusal, WriteError, FatFilesError, DiskError, TableError, OSError)


class Medium(msgspec.Struct, frozen=True):
    """What the installer was started from. `config`: the files of its CONFIG."""

    disk: BootDisk
    carried: Carried
    config: Mapping[str, bytes] = msgspec.field(default_factory=dict)

    def find(self, label: Label) -> Found:
        """Raises DiskError."""
        found = self.disk.find(label)
        if found is None:
            raise DiskError(f"cannot find the partition {label} on the installer's medium")
        return found


def be_installer(arguments: Mapping[str, str]) -> bool:
    """Installs, or says why not. True when the machine is to start again, not to be off."""
    order = Order()
    try:
        order = parse_order(arguments)
        medium = open_medium()
    except _FAILURES as error:
        _stay(_told(error))
        return False
    console.say(f"this installs {medium.carried.version}")
    serial = soft_serial(order, medium.config)
    disks = _look(medium, order)
    for disk in disks:
        console.say(_describe(disk))
    outcome, failed = _run(order, medium, disks, serial)
    _record(medium, disks, serial, outcome)
    if failed:
        _stay(outcome)
        return False
    console.say(outcome)
    if order.pause_after:
        console.say("press Enter to go on")
        console.await_enter(_PAUSE_SECONDS)
    return order.restart


def _run(
    order: Order, medium: Medium, disks: tuple[DiskFacts, ...], serial: str
) -> tuple[str, bool]:
    """The outcome in words, and whether it failed."""
    if order.record_only:
        return "recorded this machine; nothing was installed (eve_blackbox)", False
    try:
        plan = choose(order, disks, uefi=hardware.firmware() == "UEFI")
        if order.pause_before:
            console.say(f"press Enter to install on /dev/{plan.disk}")
            console.await_enter(_PAUSE_SECONDS)
        install(plan, medium, _new_config(order, medium, serial))
    except _FAILURES as error:
        return _told(error), True
    data = "" if plan.persist == plan.disk else f", data on /dev/{plan.persist}"
    return f"installed {medium.carried.version} on /dev/{plan.disk}{data}", False


def _stay(why: str) -> None:
    console.say(f"{why}; press Enter to switch off")
    console.await_enter(_READ_SECONDS)


def _told(error: Exception) -> str:
    text = str(error)
    return text if text.startswith("cannot ") else f"cannot install: {text}"


# -- what there is ---------------------------------------------------------------------------------


def open_medium() -> Medium:
    """Raises DiskError, TableError, OSError."""
    disk = boot_disk()
    found = Medium(disk, Carried("", 0, ""))
    carried = read_carried(found.find(Label.INSTALLER).device)
    return Medium(disk, carried, read_config(found.find(Label.CONFIG).device))


def read_carried(device: Path) -> Carried:
    """What follows the root image. Raises DiskError, OSError."""
    with device.open("rb") as file:
        file.seek(40)  # bytes of the image: squashfs_fs.h
        size = int.from_bytes(file.read(8), "little")
        file.seek(-(-size // TAIL_ALIGN) * TAIL_ALIGN)
        tail = file.read(TAIL_SIZE)
    try:
        return msgspec.json.decode(tail.strip(), type=Carried)
    except (msgspec.DecodeError, ValueError):
        raise DiskError("cannot read the image that this medium brings: write it anew") from None


def _look(medium: Medium, order: Order) -> tuple[DiskFacts, ...]:
    wanted = frozenset({order.disk, order.persist, *order.erase} - {""})
    return tuple(_facts(disk, medium) for disk in await_disks(_DISKS_SECONDS, wanted))


def _facts(disk: WholeDisk, medium: Medium) -> DiskFacts:
    try:
        holds, content = _content(disk.device)
    except OSError as error:  # a slot for cards, a disk that is broken
        holds, content = Holds.CONTENT, f"what cannot be read ({error.strerror or error})"
    return DiskFacts(
        name=disk.name,
        size=disk.size,
        sector=disk.sector,
        model=disk.model,
        serial=disk.serial,
        removable=disk.removable,
        read_only=disk.read_only,
        used=disk.device == medium.disk.device,
        holds=holds,
        content=content,
    )


def _content(device: Path) -> tuple[Holds, str]:
    head, tail = read_ends(device)
    try:
        entries = read_table(device).entries
    except TableError:
        entries = None
    return judge(head, tail, entries, has_old_table(head[:SECTOR]))


def _describe(disk: DiskFacts) -> str:
    what = f" ({disk.model})" if disk.model else ""
    holds = "this installer" if disk.used else disk.content or "nothing"
    return f"/dev/{disk.name}{what}: {disk.size // MIB} MiB, holds {holds}"


# -- what is written -------------------------------------------------------------------------------


def install(plan: Plan, medium: Medium, config: Path) -> None:
    """`config`: an image of CONFIG. Raises WriteError, DiskError.

    The disk with the data is finished first: a disk that boots finds it.
    """
    for name in plan.erase:
        console.say(f"erasing /dev/{name}")
        with open_writer(Path("/dev") / name) as writer:
            writer.erase()
    if plan.persist != plan.disk:
        with open_writer(Path("/dev") / plan.persist) as writer:
            laid = lay_out(writer.size, system=False, data=True, sector=writer.sector)
            _write(writer, laid, [], b"")
    with open_writer(Path("/dev") / plan.disk) as writer:
        whole = plan.persist == plan.disk
        laid = lay_out(writer.size, system=True, data=whole, sector=writer.sector)
        pieces = _pieces(laid, medium, config, writer.sector)
        _write(writer, laid, pieces, _boot_code(medium))


def _pieces(laid: Laid, medium: Medium, config: Path, sector: int) -> list[Piece]:
    image, place = medium.find(Label.INSTALLER), laid.places[Label.IMGA]
    size = _fitting(medium.carried.size, place)
    root = Piece(Label.IMGA, place.start, image.device, size, sha256=medium.carried.sha256)
    volumes = {Label.ESP: medium.find(Label.ESP).device, Label.CONFIG: config}
    if sector != SECTOR:
        volumes = {
            label: _in_sectors(sector, volume, laid.places[label])
            for label, volume in volumes.items()
        }
    else:
        volumes[Label.BIOS] = medium.find(Label.BIOS).device
    return [root, *(_piece(volume, laid.places[label]) for label, volume in volumes.items())]


def _piece(source: Path, place: Place) -> Piece:
    with source.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    return Piece(place.row.label, place.start, source, _fitting(size, place))


def _in_sectors(sector: int, volume: Path, place: Place) -> Path:
    """The same files in a FAT whose sectors are the disk's own: the kernel mounts no other."""
    made = _VOLUMES / f"{place.row.number}.fat"
    copy_volume(volume, made, place.size, sector)
    return made


def _boot_code(medium: Medium) -> bytes:
    """What legacy BIOS starts from a disk: the builder put it behind GRUB's core, since the medium
    itself may be started in another way.
    """
    core = medium.find(Label.BIOS)
    with core.device.open("rb") as file:
        file.seek(core.size - SECTOR)
        return file.read(BOOT_CODE)


def _fitting(size: int, place: Place) -> int:
    if size > place.size:
        raise WriteError(
            f"cannot write {place.row.label}: it has {size} bytes, the partition {place.size}"
        )
    return size


def _write(writer: DiskWriter, laid: Laid, pieces: list[Piece], code: bytes) -> None:
    console.say(f"writing {writer.device}")
    writer.begin(MARK)
    for label in (Label.IMGB, Label.P3):
        if label in laid.places:
            place = laid.places[label]
            writer.clear_ends(place.start, place.size, _DATA_CLEARED)
    for piece in pieces:
        console.say(f"writing {piece.name} ({piece.size / MIB:.0f} MiB)")
        writer.copy(piece)
    console.say(f"reading {writer.device} back")
    guid = str(uuid.uuid4())
    writer.finish(format_table(writer.size, guid, laid.entries, code, writer.sector))


def _new_config(order: Order, medium: Medium, serial: str) -> Path:
    """The medium's own CONFIG, less what is for the installer, with what it was told."""
    _CONFIG_IMAGE.write_bytes(medium.find(Label.CONFIG).device.read_bytes())
    remove_files(_CONFIG_IMAGE, (name for name in _FOR_INSTALLER if name in medium.config))
    put_files(_CONFIG_IMAGE, told_files(order, serial))
    return _CONFIG_IMAGE


# -- what is recorded ------------------------------------------------------------------------------


def _record(medium: Medium, disks: tuple[DiskFacts, ...], serial: str, outcome: str) -> None:
    remembered = read_remembered(_TPM)
    record = _describe_machine(medium, disks, serial, outcome)
    record = msgspec.structs.replace(record, device_certificate=fingerprint(remembered.device))
    files = files_of(record, medium.config, remembered.endorsement)
    folder = folder_of(record)
    failed: list[str] = []
    for disk in _record_places(medium, disks):
        try:
            found = disk.find(Label.INVENTORY)
            if found is None:
                continue
            put_files(found.device, files)
        except (FatFilesError, TableError, OSError) as error:
            failed.append(str(error))
            continue
        where = "" if disk == medium.disk else f" of {disk.device}"
        console.say(f"recorded this machine on INVENTORY{where}, in {folder}")
        return
    why = "; ".join(failed) or "the medium is read-only, and no stick has a partition INVENTORY"
    console.say(f"cannot record this machine on INVENTORY: {why}")
    for line in told_lines(record):
        console.say(line)


def _record_places(medium: Medium, disks: tuple[DiskFacts, ...]) -> list[BootDisk]:
    """The medium, unless it is a CD; then sticks: no disk that is built in is written for this."""
    if not medium.disk.read_only:
        return [medium.disk]
    sticks = [disk for disk in disks if disk.removable and not disk.read_only]
    return [BootDisk(Path("/dev") / disk.name) for disk in sticks]


def _describe_machine(
    medium: Medium, disks: tuple[DiskFacts, ...], serial: str, outcome: str
) -> Record:
    found = readings.inventory(Path("/run"), early.serial_number())
    config = medium.config
    return Record(
        at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=medium.carried.version,
        outcome=outcome,
        serial=found.serial,
        soft_serial=serial,
        manufacturer=found.manufacturer,
        product=found.product,
        architecture=found.architecture,
        cpus=found.cpus,
        cpu_model=hardware.cpu_model(),
        memory=found.memory,
        firmware=hardware.firmware(),
        tpm=hardware.tpm_version(),
        watchdog=readings.has_watchdog(),
        disks=disks,
        nics=hardware.nics(),
        server=config.get("server", b"").decode(errors="replace").strip(),
        root_certificate=fingerprint(config.get("root-certificate.pem", b"")),
        onboarding_certificate=fingerprint(config.get("onboard.cert.pem", b"")),
    )
