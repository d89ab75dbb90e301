"""What the first process of a machine does to it before any service: mounts, devices, time.

Each step is idempotent: whoever booted the machine may have done it already. Nothing here decides
whether the node starts; a step that cannot be done raises OSError, or says so and goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.stage import mount

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_SAFE: Final = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC

_KERNEL_MOUNTS: Final = (
    ("proc", "/proc", "proc", _SAFE, ""),
    ("sysfs", "/sys", "sysfs", _SAFE, ""),
    ("devtmpfs", "/dev", "devtmpfs", _MS_NOSUID, "mode=755"),
    ("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=32m"),  # noqa: S108
    ("tmpfs", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=64m"),
    ("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=64m"),  # noqa: S108
    ("tmpfs", "/var", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=16m"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", _SAFE, "nsdelegate,memory_recursiveprot"),
    ("securityfs", "/sys/kernel/security", "securityfs", _SAFE, ""),
    ("pstore", "/sys/fs/pstore", "pstore", _SAFE, ""),
    ("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", _SAFE, ""),
)
_NEEDED: Final = frozenset({"/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup"})

_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
_SETTINGS: Final = {
    "kernel/panic": "1",
    "kernel/panic_on_oops": "1",
    "kernel/printk": "4 4 1 7",  # the console is for words about the node
    "kernel/kptr_restrict": "2",
    "kernel/dmesg_restrict": "1",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/yama/ptrace_scope": "2",
    "vm/panic_on_oom": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv6/conf/all/accept_redirects": "0",
    "fs/protected_fifos": "2",
    "fs/protected_regular": "2",
}
_FILE_SYSTEMS: Final = ("ext4", "vfat", "nls_cp437", "nls_iso8859_1", "nls_ascii")
_MODULES: Final = (
    *("overlay", "loop"),
    *("bridge", "br_netfilter", "veth", "tun", "8021q"),
    *("nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_reject", "nft_reject_inet", "nft_limit"),
    *("nft_chain_nat", "nft_log", "nft_fib", "nft_fib_inet", "nf_conntrack_netlink"),
    *("usb_storage", "uas", "sd_mod", "vhost_net", "vhost_vsock", "efi_pstore"),
    *("vfio_pci", "can_raw"),  # devices of apps
    "evdev",  # the power button
)
"""What the node's services use, and what no device's name would load."""
_PROCESSOR: Final = Path("/sys/devices/system/cpu/modalias")
_WATCHDOGS: Final = (("i6300esb", "iTCO_wdt", "sp5100_tco"), ("softdog",))
"""Distributions keep them from being loaded by a device's name. The kernel's own timer last."""


def mount_kernel_file_systems() -> list[str]:
    """Those that every program expects. Returns what is not there, in words; raises OSError when
    one is missing without which nothing works.
    """
    missing = []
    for source, target, kind, flags, options in _KERNEL_MOUNTS:
        directory = Path(target)
        if _is_mounted(directory):
            continue
        try:
            if not directory.is_dir():
                directory.mkdir(parents=True)
            mount(source, directory, kind, flags, options)
        except OSError as error:
            if target in _NEEDED:
                raise
            missing.append(f"{target}: {error.strerror or error}")
    for name, target in _LINKS:
        with contextlib.suppress(FileExistsError):
            os.symlink(target, name)
    return missing


def _is_mounted(directory: Path) -> bool:
    try:
        above = os.stat(directory.parent)
        own = os.stat(directory)
    except OSError:
        return False
    return own.st_dev != above.st_dev


def apply_settings() -> None:
    """sysctl; one that this kernel does not have is left out."""
    for name, value in _SETTINGS.items():
        with contextlib.suppress(OSError):
            (Path("/proc/sys") / name).write_text(value)


class Loading(msgspec.Struct):
    """Modules are on their way. What was forked meanwhile can wait for them too."""

    aliases: frozenset[str]
    """Of the devices that were there at its begin."""
    _process: subprocess.Popen[bytes] | None = None
    _end: int | None = None

    def wait(self) -> None:
        """Its process may have been reaped by somebody else."""
        if self._process is not None and self._end is not None:
            select.select([self._end], [], [])
            self._process.wait()

    def finish(self) -> None:
        """Waits, and loads what has shown up behind buses meanwhile, and a watchdog."""
        self.wait()
        late = sorted(set(_device_aliases()) - self.aliases)
        if late:
            _load(frozenset(late), "-b", *late).wait()
        for modules in _WATCHDOGS:
            if not _has_watchdog():
                _load(frozenset(), *modules).wait()


def load_modules() -> Loading:
    """Starts loading what the present devices and the node need."""
    aliases = frozenset(_device_aliases())
    return _load(aliases, "-b", *sorted(aliases), *_MODULES)


def load_file_systems() -> None:
    """At once, those of P3 and CONFIG."""
    _load(frozenset(), *_FILE_SYSTEMS).wait()


def _load(aliases: frozenset[str], *arguments: str) -> Loading:
    try:
        process = subprocess.Popen(
            ["modprobe", "-a", "-q", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return Loading(aliases, process, os.pidfd_open(process.pid))
    except OSError:
        return Loading(aliases)


def _has_watchdog() -> bool:
    watchdogs = Path("/sys/class/watchdog")
    return watchdogs.is_dir() and any(watchdogs.iterdir())


def _device_aliases() -> Iterator[str]:
    """Of those that no driver has yet, and of the processor, which is on no bus: its virtualization
    (KVM), its ciphers, its memory's errors.
    """
    with contextlib.suppress(OSError):
        yield _PROCESSOR.read_text().strip()
    for path in glob.iglob("/sys/bus/*/devices/*/modalias"):
        if not os.path.exists(f"{os.path.dirname(path)}/driver"):
            with contextlib.suppress(OSError):
                alias = Path(path).read_text().strip()
                if alias:
                    yield alias


_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP: Final = 1


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(line, _SIOCGIFFLAGS, request))
        fcntl.ioctl(line, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def advance_clock(least: float) -> bool:
    """A clock that is behind `least` (seconds since 1970) is set to it: certificates would seem not
    to be valid yet. True when it was.
    """
    if time.time() >= least:
        return False
    time.clock_settime(time.CLOCK_REALTIME, least)
    return True


def kernel_arguments() -> dict[str, str]:
    """The kernel's command line; of an argument that comes twice the last. Quotes are taken off."""
    found = {}
    for word in split_arguments(Path("/proc/cmdline").read_text()):
        name, _, value = word.partition("=")
        found[name] = value
    return found


def split_arguments(line: str) -> list[str]:
    """As the kernel does it: double quotes hold blanks together, and there is no escape."""
    words, word, quoted = [], "", False
    for character in line.strip() + " ":
        if character == '"':
            quoted = not quoted
        elif character.isspace() and not quoted:
            if word:
                words.append(word)
            word = ""
        else:
            word += character
    return words


def serial_number() -> str:
    """The machine's own, from its firmware; empty when it has none that means anything."""
    for name in ("product_serial", "board_serial", "chassis_serial", "product_uuid"):
        with contextlib.suppress(OSError):
            text = Path("/sys/class/dmi/id", name).read_text(errors="replace").strip()
            if text and text.lower() not in _NO_SERIAL:
                return text
    with contextlib.suppress(OSError):
        return Path("/proc/device-tree/serial-number").read_text().strip("\0\n ")
    return ""


_NO_SERIAL: Final = frozenset(
    {"none", "not specified", "not applicable", "default string", "to be filled by o.e.m.", "0"}
    | {"system serial number", "unknown", "n/a", "123456789"}
)
