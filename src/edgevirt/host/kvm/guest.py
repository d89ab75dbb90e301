"""A container as a virtual machine: what our kernel and its process 1 find in it. Pure.

The guest gets disks, and the devices that the app was given: no file of the node is shared with
it. Each disk is known by its serial. `given` is a tar that tells what to run and where to mount
what; `end` takes the last words of the guest, and cannot grow; `imageN` holds the layers of volume
N, `keptN` what is written over them, where that may be, `volumeN` the file system of another.
`drivers` is there where there may be devices that the small kernel does not know: then a larger one
starts. `image/files/guest/init.sh` is the other half of this.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.host.container import oci
from edgevirt.host.container.user_data import UserData, parse_user_data
from edgevirt.host.devices.of_container import DeviceNode
from edgevirt.host.devices.of_machine import places, sockets
from edgevirt.host.hypervisor import Exit, HypervisorError, UnfitError
from edgevirt.model.app import least_contained_kib
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import BootMode, Domain, DomainVolume, VirtualizationMode
from edgevirt.model.hardware import MachineDevices, find_usb

END_SIZE: Final = 4096
_STAY: Final = "EVE_CONTAINER_NO_POWEROFF"
"""User data of this name, if 1, keeps the machine on when its app has ended, as EVE does."""
ARGUMENTS: Final = (
    "console=hvc0 quiet loglevel=1 panic=-1"
    # what takes time at each start and is of no use here
    " lsm=landlock,yama,bpf cryptomgr.notests no_timer_check i8042.noaux"
)
_RAMDISK_AT: Final = 84 << 20
"""Where a machine with a TPM finds its initial file system: behind all that its kernel takes, and
below what the firmware takes of the least memory. QEMU 7.2 would lay it over the machine's tables:
it keeps 160 KiB free above it, and with a TPM these take 192. (A packed kernel is started by other
code, which looks where there is room.)
"""
_SCAN: Final = " usb_storage.delay_use=0"
"""A disk is there as soon as it can be: by default a stick is given a second."""
_SPARE_PORTS: Final = 8
"""Serial ports that a PCI function may bring."""
_NOTHING: Final = MachineDevices()
_MOST_SAID: Final = 300
_UNNAMED: Final = re.compile(r"^[.-]|[^A-Za-z0-9._:+-]")
_TTY: Final = 4
_FIRST_PORT: Final = 64
"""Device numbers of serial ports: the kernel's Documentation/admin-guide/devices.txt."""


class GuestFiles(msgspec.Struct, frozen=True):
    """What every such machine starts with: the same for all, and nobody's secret.

    `general_kernel`, `general_initrd`: instead, where it has devices; `drivers`: of these.
    """

    kernel: Path
    initrd: Path
    general_kernel: Path
    general_initrd: Path
    drivers: Path

    @classmethod
    def below(cls, directory: Path) -> GuestFiles:
        names = ("vmlinux", "initrd.img", "vmlinuz", "general.img", "drivers.img")
        return cls(*(directory / name for name in names))

    def lack(self, *, general: bool = False) -> str:
        """Why they cannot be used: a sentence's end. Empty: they can. Blocks."""
        needed = (self.general_kernel, self.general_initrd, self.drivers)
        if all(path.exists() for path in (needed if general else (self.kernel, self.initrd))):
            return ""
        return (
            "this node has no kernel for containers in a virtual machine"
            f"{' with devices' if general else ''};"
            " `edgevirt image guest` makes it, for the Python that runs the node"
        )


class Insides(msgspec.Struct, frozen=True):
    """`domain`: the machine, with raw disks for volumes; `serials`: of these, in order.
    `given`: content of the disk of that name, which, like `end`, is still to be made.
    `ramdisk_at`: where the initial file system is to lie; 0: where QEMU lays it.
    """

    domain: Domain
    serials: tuple[str, ...]
    given: bytes
    ramdisk_at: int = 0


def needs_drivers(domain: Domain) -> bool:
    """Serial ports, a TPM and what is virtio the small kernel knows."""
    return any(not device.addresses.serial for device in domain.devices)


def make_insides(
    domain: Domain,
    user_data: bytes,
    files: GuestFiles,
    machine: MachineDevices = _NOTHING,
) -> Insides:
    """`machine`: what is plugged in. Raises HypervisorError, UnfitError."""
    general = needs_drivers(domain)
    _check(domain, files, general=general)
    wanted, nodes = parse_user_data(user_data), _nodes(domain)
    disks = [disk for index, one in enumerate(domain.volumes) for disk in _disks(index, one)]
    if general:
        drivers = DomainVolume(path=str(files.drivers), format=ContentFormat.RAW, readonly=True)
        disks.append(("drivers", drivers))
    serials, volumes = zip(*disks, strict=True)
    ports = len(nodes) + (_SPARE_PORTS if general else 0)
    made = replace(
        domain,
        mode=VirtualizationMode.PV,
        boot_mode=BootMode.UNSPECIFIED,
        volumes=volumes,
        kernel=str(files.general_kernel if general else files.kernel),
        ramdisk=str(files.general_initrd if general else files.initrd),
        kernel_arguments=f"{ARGUMENTS} 8250.nr_uarts={ports}{_SCAN if general else ''}",
    )
    place = _RAMDISK_AT if domain.tpm and not general else 0
    if place:
        made = replace(made, kernel_arguments=f"{made.kernel_arguments} {_laid(files.initrd)}")
    plugged = sum(
        find_usb(machine, device.addresses) is not None for device in sockets(domain.devices)
    )
    return Insides(made, serials, _give(domain, wanted, nodes, plugged), place)


def _laid(initrd: Path) -> str:
    """The kernel's words for an initial file system at a place that is taken out of its memory."""
    size = initrd.stat().st_size
    return f"initrdmem={_RAMDISK_AT:#x},{size} memmap={-(-size // 4096) * 4}K${_RAMDISK_AT:#x}"


def _check(domain: Domain, files: GuestFiles, *, general: bool) -> None:
    if domain.kernel or domain.ramdisk or domain.kernel_arguments:
        raise UnfitError("cannot run: a container's machine has a kernel of its own")
    lack = files.lack() or (files.lack(general=True) if general else "")
    if lack:
        raise HypervisorError(f"cannot run: {lack}")  # they can be made while the node runs
    least = least_contained_kib(devices=general)
    if domain.memory_kib < least:
        raise UnfitError(
            f"cannot run: {domain.memory_kib} KiB are too little for a container in a virtual"
            f" machine{' with devices' if general else ''}, which needs {least}"
        )
    for volume in domain.volumes:
        if volume.format not in (ContentFormat.CONTAINER, ContentFormat.RAW):
            kind = ContentFormat(volume.format).name
            raise UnfitError(f"cannot mount a volume of format {kind}: a container takes RAW ones")
        if volume.format == ContentFormat.CONTAINER and not volume.packed:
            raise UnfitError("cannot run: its image is not there as a disk")
        if Path(volume.path).is_dir():
            raise UnfitError("cannot run: its volume is of an older form; purge the app")


def _disks(index: int, volume: DomainVolume) -> Iterator[tuple[str, DomainVolume]]:
    kept = DomainVolume(path=volume.path, format=ContentFormat.RAW, readonly=False)
    if volume.format == ContentFormat.CONTAINER:
        image = DomainVolume(path=volume.packed, format=ContentFormat.RAW, readonly=True)
        yield f"image{index}", image
        if index == 0 or not volume.readonly:
            yield f"kept{index}", kept
    else:
        yield f"volume{index}", replace(kept, readonly=volume.readonly)


def _mounts(domain: Domain) -> Iterator[tuple[str, ...]]:
    """What is to be mounted, in this order."""
    root, *others = domain.volumes
    yield ("root", "image0", "kept0", _access(root), _layers(root))
    found = []
    for index, volume in enumerate(others, 1):
        target = oci.mount_target(volume.mount_dir, index)
        if not target.isprintable():
            raise UnfitError(f"cannot mount a volume at {target!r}: not a name to print")
        found.append((target, index, volume))
    for target, index, volume in sorted(found, key=lambda one: one[0].count("/")):
        if volume.format == ContentFormat.CONTAINER:
            where = f"{_access(volume)} {target}"
            kept = "-" if volume.readonly else f"kept{index}"
            yield ("layers", f"image{index}", kept, where, _layers(volume))
        else:
            yield ("volume", f"volume{index}", _access(volume), target)


def _access(volume: DomainVolume) -> str:
    return "ro" if volume.readonly else "rw"


def _layers(volume: DomainVolume) -> str:
    """Their names on the disk, lowest first; one that is there twice counts where it is higher."""
    names = [PurePosixPath(layer).name for layer in volume.layers]
    return " ".join(reversed(dict.fromkeys(reversed(names))))


def _nodes(domain: Domain) -> tuple[DeviceNode, ...]:
    """Serial ports, under the names that they have on the node; in the guest they are its first."""
    nodes = []
    for number, device in enumerate(one for one in domain.devices if one.addresses.serial):
        path = device.addresses.serial
        if not path.startswith("/dev/") or not path.isprintable():
            raise UnfitError(f"cannot give {device.label} to the app: {path!r} is no device's name")
        nodes.append(DeviceNode(device.label, path, _TTY, _FIRST_PORT + number))
    return tuple(nodes)


def _plan(
    domain: Domain, wanted: UserData, nodes: tuple[DeviceNode, ...], plugged: int
) -> Iterator[tuple[str, ...]]:
    """Lines of fields, in the order in which they are done: files lie below what is mounted."""
    root, *others = _mounts(domain)
    yield ("hostname", domain.hostname or domain.app)
    if wanted.environment.get(_STAY) == "1":
        yield ("stay", "1")
    yield root
    for number, file in enumerate(wanted.files):
        yield ("file", f"file{number}", f"{file.mode:o}", file.path)
    yield from others
    if plugged:
        yield ("usb", str(plugged))
    for node in nodes:
        yield ("device", node.path, str(node.major), str(node.minor))


def _give(domain: Domain, wanted: UserData, nodes: tuple[DeviceNode, ...], plugged: int) -> bytes:
    lines = _plan(domain, wanted, nodes, plugged)
    files = {
        "app": _app(domain, wanted.environment, nodes),
        "plan": "".join("\t".join(line) + "\n" for line in lines).encode(),
        "resolv.conf": oci.resolv_conf(domain.dns).encode(),
        "hosts": oci.hosts_file(domain.hostname or domain.app).encode(),
        "names": _names(domain),
        **{f"file{number}": file.content for number, file in enumerate(wanted.files)},
    }
    if not domain.dns:
        files["ask-names"] = b""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _names(domain: Domain) -> bytes:
    """Of devices, by their places: those of directories."""
    found = ((place, _UNNAMED.sub("_", label)) for place, label in places(domain.devices))
    return "".join(f"{place}\t{name}\n" for place, name in found).encode()


def _app(domain: Domain, environment: Mapping[str, str], nodes: tuple[DeviceNode, ...]) -> bytes:
    """As `image/files/guest/enter.c` reads it."""
    variables = oci.merged(domain.image, environment, nodes)
    words = oci.command(domain.image, environment)
    workdir = oci.directory(domain.image)
    strings = [domain.image.user, workdir, str(len(variables)), *variables, *words]
    if any("\0" in one for one in strings):
        raise UnfitError("cannot run the image: its config has a NUL in a word")
    return "".join(f"{one}\0" for one in strings).encode()


WITHOUT_A_WORD: Final = Exit(
    1, why="cannot keep running: its machine went down without a word; its kernel may have crashed"
)


def read_end(record: bytes) -> Exit | None:
    """What the guest left on its disk `end`: anything, or nothing (None)."""
    first, _, rest = record[:END_SIZE].rstrip(b"\0").decode(errors="replace").partition("\n")
    match first.split():
        case ["exit", code, killed] if code.isdecimal() and killed.isdecimal() and len(code) < 4:
            said = " ".join(rest.split())[:_MOST_SAID]
            why = said if said.isprintable() else ""
            return Exit(int(code) & 0xFF, int(killed[:9]) > 0, why)
    return None
