"""Gives up rights: what a process does to itself between fork and its work.

The order matters and is kept here: what needs a right comes before the right is gone. After
`confine` the process has its own user, only its capabilities, no way to gain others, a filter on
its system calls, and (where the kernel has Landlock) only its part of the file system.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.rights.death import die_with
from edgevirt.host.rights.landlock import FileRights, restrict_files
from edgevirt.host.rights.namespace import Namespaces, unshare
from edgevirt.host.rights.seccomp import Filter, load_filter

CAPABILITIES = {
    name: number
    for number, name in enumerate(
        (
            *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID"),
            *("SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST"),
            *("NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO"),
            *("SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
            *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE"),
            *("AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM"),
            *("BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
        )
    )
}
"""linux/capability.h, without `CAP_`."""

_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 8, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 38, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR = 2, 4
_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class Confinement(msgspec.Struct, frozen=True):
    """What a process keeps. `files` None: everything that its user may reach."""

    uid: int
    gid: int
    filter: Filter
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset()
    network: bool = False
    no_new_privileges: bool = True
    files: FileRights | None = None
    umask: int = 0o077


def confine(limits: Confinement, parent: int) -> None:
    """Irrevocable, for the calling process, which must have one thread. Raises OSError.

    The process dies with `parent`, the process that forked it. Programs that it starts keep its
    capabilities, and no more.
    """
    if not limits.network:
        unshare(Namespaces.NETWORK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds secrets
    _become(limits)
    die_with(parent)
    if limits.no_new_privileges:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if limits.files is not None:
        restrict_files(limits.files)
    load_filter(limits.filter)
    os.umask(limits.umask)


def limit_memory(cgroup: Cgroup, size: int) -> None:
    """Makes the group and bounds its memory, in bytes; swap is not used beyond it."""
    cgroup.create()
    cgroup.bound(memory=size)


def _become(limits: Confinement) -> None:
    kept = {CAPABILITIES[name] for name in limits.capabilities} & permitted()
    for number in range(_last_capability() + 1):
        if number not in kept:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups(limits.groups)
    os.setresgid(limits.gid, limits.gid, limits.gid)
    os.setresuid(limits.uid, limits.uid, limits.uid)
    _set_capabilities(kept)
    for number in kept:
        _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number)


@cache
def permitted() -> frozenset[int]:
    """What the process began with; in a container of somebody else's that is not everything."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            mask = int(line.split()[1], 16)
            return frozenset(number for number in range(64) if mask >> number & 1)
    return frozenset()


@cache
def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def _set_capabilities(kept: Iterable[int]) -> None:
    """Effective, permitted and inheritable alike."""
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("<6I", low, low, low, high, high, high)
    if _libc.capset(header, data) != 0:
        _fail("cannot set capabilities")


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *padded) != 0:
        _fail(f"cannot do prctl {option} {arguments}")


def _fail(what: str) -> None:
    code = ctypes.get_errno() or errno.EINVAL
    raise OSError(code, f"{what}: {os.strerror(code)}")
