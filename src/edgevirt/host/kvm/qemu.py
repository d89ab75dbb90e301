"""From a domain to QEMU's command line. Pure.

All that QEMU uses is open when it starts (`host.rights.cell`): disks, taps, sockets, a kernel. So
no path of the node's stands here, and no name that somebody else chose is ever parsed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from edgevirt.host.devices import of_machine
from edgevirt.host.hypervisor import UnfitError
from edgevirt.host.kvm import disks, virtual_tpm
from edgevirt.host.kvm.acceleration import KVM, processor
from edgevirt.host.kvm.huge_pages import SIZE
from edgevirt.model.domain import BootMode, Domain, VirtualizationMode

CONSOLE_LOG: Final = 10
MONITOR: Final = 11
CONSOLE: Final = 12
_FIRMWARE: Final = 13
_VARIABLES: Final = 14
_KERNEL: Final = 16
_RAMDISK: Final = 17
_FIRST_TAP: Final = 50
_FIRST_VHOST: Final = 80
_WRITABLE: Final = 100
"""Added to the number of a file: its writable descriptor."""
_MOST_TAPS: Final = 16

_BOARD: Final = "usb=off,dump-guest-core=off"

VHOST: Final = "/dev/vhost-net"

OVMF_CODE: Final = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES: Final = "/usr/share/OVMF/OVMF_VARS_4M.fd"


class Opened(msgspec.Struct, frozen=True):
    """A file that the command line counts on: its descriptor, and how it is to be opened.

    `number`: how the command line calls it.
    `copied`: QEMU opens it once more, by its descriptor, and so gets a copy.
    """

    number: int
    descriptor: int
    path: str
    writable: bool = False
    copied: bool = False


class Memory(enum.Enum):
    """When the machine gives a guest its memory: as it is used, or WHOLE from the start; HUGE: and
    in huge pages.
    """

    AS_USED = enum.auto()
    WHOLE = enum.auto()
    HUGE = enum.auto()


class Machine(msgspec.Struct, frozen=True):
    """`domain`, with what its hypervisor made for it. Paths; empty: none.

    `variables`: the UEFI firmware's. `seed`: of cloud-init. `accelerator`: as `-accel` takes it.
    `serials`: of the volumes, for the guest of ours that a container runs in; its console is on
    virtio, and what it starts with is read where it lies. `vhost`: the node's kernel itself moves
    what its interfaces send and get, instead of QEMU. `ramdisk_at`: the address in its memory where
    its RAM disk is laid, for a kernel that is told so; 0: where QEMU wants.
    """

    domain: Domain
    accelerator: str
    variables: str = ""
    seed: str = ""
    memory: Memory = Memory.AS_USED
    serials: tuple[str, ...] = ()
    vhost: bool = False
    ramdisk_at: int = 0


def is_uefi(domain: Domain) -> bool:
    if domain.boot_mode is not BootMode.UNSPECIFIED:
        return domain.boot_mode is BootMode.UEFI
    return domain.mode is VirtualizationMode.FML


def has_screen(domain: Domain) -> bool:
    """What is started with a kernel is told by its command line where to talk."""
    return not domain.kernel


def check(domain: Domain) -> None:
    """Raises UnfitError."""
    if not domain.volumes and not domain.kernel:
        raise UnfitError("cannot run: no volume and no kernel to start from")
    for what, path in (("kernel", domain.kernel), ("RAM disk", domain.ramdisk)):
        if path and not path.startswith("/"):
            raise UnfitError(f"cannot run: its {what} {path!r} is none of its volumes")
    if domain.kernel_arguments and not domain.kernel:
        raise UnfitError("cannot run: arguments for a kernel, but no kernel")
    disks.check(domain)
    of_machine.check(domain.devices)
    if len(domain.vifs) > _MOST_TAPS:
        number = len(domain.vifs)
        raise UnfitError(f"cannot run: it has {number} vifs, at most {_MOST_TAPS} fit")


def files(machine: Machine) -> Iterator[Opened]:
    """All that must be open besides sockets, taps and the console's log."""
    if is_uefi(machine.domain):
        yield Opened(_FIRMWARE, _FIRMWARE, OVMF_CODE)
        yield from _both(_VARIABLES, machine.variables)
    if machine.seed:
        yield Opened(disks.SEED, disks.SEED, machine.seed)
    for number, path in ((_KERNEL, machine.domain.kernel), (_RAMDISK, machine.domain.ramdisk)):
        if path:
            yield Opened(number, number, path, copied=not machine.serials)
    for number, path in of_machine.files(machine.domain.devices):
        yield Opened(number, number, path, writable=True, copied=False)
    for index, volume in enumerate(machine.domain.volumes):
        number = disks.FIRST_DISK + index
        writable = not disks.is_readonly(volume)
        yield Opened(number, number, volume.path, writable=writable)


def drives(machine: Machine) -> dict[str, str]:
    """How QEMU's monitor calls its disks, by their paths."""
    return {one.path: disks.name_of(index) for index, one in enumerate(machine.domain.volumes)}


def read_in_place(machine: Machine) -> tuple[str, ...]:
    """Paths of what is opened once more where it lies, because all may read it."""
    copied = {one.path for one in files(machine) if one.copied}
    started = (machine.domain.kernel, machine.domain.ramdisk)
    return tuple(path for path in started if path and path not in copied)


def _both(number: int, path: str) -> Iterator[Opened]:
    """What QEMU opens to read first, and then to write."""
    yield Opened(number, number, path)
    yield Opened(number, _WRITABLE + number, path, writable=True)


def taps(domain: Domain) -> Iterator[tuple[int, str]]:
    for index, vif in enumerate(domain.vifs):
        yield _FIRST_TAP + index, vif.host_name


def vhosts(machine: Machine) -> Iterator[int]:
    """Descriptors at which it finds VHOST open, once for each interface."""
    if machine.vhost and not _is_legacy(machine.domain):
        yield from range(_FIRST_VHOST, _FIRST_VHOST + len(machine.domain.vifs))


def command(program: str, machine: Machine) -> list[str]:
    domain = machine.domain
    words = [program, *_base(machine), *_processor(machine), *_channels(machine)]
    for opened in files(machine):
        if opened.number not in (_KERNEL, _RAMDISK):
            words += ["-add-fd", f"fd={opened.descriptor},set={opened.number}"]
    words += _firmware(machine)
    words += virtual_tpm.words() if domain.tpm else []
    words += of_machine.words(domain.devices, legacy=_is_legacy(domain))
    words += disks.words(domain, machine.serials, seeded=bool(machine.seed))
    return [*words, *_interfaces_and_functions(machine)]


def _base(machine: Machine) -> list[str]:
    domain = machine.domain
    board = "pc" if _is_legacy(domain) else "q35"
    clock = "localtime" if _is_legacy(domain) else "utc"  # what systems of that time expect
    denied = "obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    return [
        *("-name", domain.app, "-uuid", domain.app),
        *("-nodefaults", "-no-user-config", "-S", "-display", "none"),
        *("-sandbox", f"on,{denied}"),
        *("-machine", f"{board},{_BOARD}"),
        *("-accel", machine.accelerator),
        *_memory(machine),
        *("-rtc", f"base={clock}", "-boot", "strict=on"),
        *("-action", "panic=exit-failure", "-device", "pvpanic"),
    ]


def _memory(machine: Machine) -> list[str]:
    size = f"size={machine.domain.memory_kib}k"
    if machine.memory is Memory.AS_USED:
        return ["-m", size]
    kind = "memory-backend-ram"
    if machine.memory is Memory.HUGE:
        kind = f"memory-backend-memfd,hugetlb=on,hugetlbsize={SIZE}"
    return [
        *("-m", size),
        *("-object", f"{kind},id=memory,prealloc=on,{size}"),
        *("-machine", "memory-backend=memory"),
    ]


def _processor(machine: Machine) -> list[str]:
    """All that it can; systems of old trip over what they do not know."""
    model = processor(machine.accelerator)
    if _is_legacy(machine.domain) and machine.accelerator != KVM:
        model = "qemu64"
    return ["-cpu", model, "-smp", str(machine.domain.vcpus)]


def _channels(machine: Machine) -> list[str]:
    words = [
        *("-add-fd", f"fd={CONSOLE_LOG},set={CONSOLE_LOG}"),
        *("-chardev", f"socket,id=monitor,fd={MONITOR},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        "-chardev",
        f"socket,id=console,fd={CONSOLE},server=on,wait=off,logfile=/dev/fdset/{CONSOLE_LOG},"
        "logappend=on",
    ]
    if machine.serials:
        words += ["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"]
        words += ["-no-reboot"]  # what restarts by itself has crashed
    else:
        words += ["-serial", "chardev:console"]
    if has_screen(machine.domain):
        # no socket is open: whoever may see the screen is handed in by the monitor
        words += ["-vga", "std", "-vnc", "none,password=on"]
    if not _is_legacy(machine.domain):
        words += ["-device", "virtio-rng-pci"]
    return words


def _firmware(machine: Machine) -> list[str]:
    words: list[str] = []
    if is_uefi(machine.domain):
        code = f"if=pflash,format=raw,readonly=on,file=/dev/fdset/{_FIRMWARE}"
        words += ["-drive", code]
        words += ["-drive", f"if=pflash,format=raw,file=/dev/fdset/{_VARIABLES}"]
    if machine.domain.kernel:
        words += ["-kernel", f"/proc/self/fd/{_KERNEL}"]
        if machine.domain.ramdisk and machine.ramdisk_at:
            laid = f"file=/proc/self/fd/{_RAMDISK},addr={machine.ramdisk_at:#x},force-raw=on"
            words += ["-device", f"loader,{laid}"]
        elif machine.domain.ramdisk:
            words += ["-initrd", f"/proc/self/fd/{_RAMDISK}"]
        words += ["-append", machine.domain.kernel_arguments]
    return words


def _interfaces_and_functions(machine: Machine) -> Iterator[str]:
    """QEMU gives each the next free place on its bus, and most guests name what they find there
    first the first. What is no network interface, or says no place, comes last.
    """
    contained = bool(machine.serials)
    functions = of_machine.function_words(machine.domain.devices, placed=contained)
    all = (*_interfaces(machine), *functions)
    for _, words in sorted(all, key=lambda one: one[0] or len(all)):
        yield from words


def _interfaces(machine: Machine) -> Iterator[tuple[int, tuple[str, ...]]]:
    """As `of_machine.function_words`."""
    legacy, movers = _is_legacy(machine.domain), tuple(vhosts(machine))
    for index, vif in enumerate(machine.domain.vifs):
        model = "e1000" if legacy else "virtio-net-pci"
        mtu = f",host_mtu={vif.mtu}" if vif.mtu and not legacy else ""
        vhost = f",vhost=on,vhostfd={movers[index]}" if movers else ""
        tap = f"tap,id=net{index},fd={_FIRST_TAP + index}{vhost}"
        device = f"{model},netdev=net{index},mac={vif.mac},romfile={mtu}"
        yield vif.place, ("-netdev", tap, "-device", device)


def _is_legacy(domain: Domain) -> bool:
    return domain.mode is VirtualizationMode.LEGACY
