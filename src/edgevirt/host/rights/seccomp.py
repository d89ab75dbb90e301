"""Filters on system calls: what no service of a class has any reason to ask the kernel for."""

from __future__ import annotations

import ctypes
import ctypes.util
import enum
import errno
import os
import socket
import struct
import tempfile
from typing import Final, NoReturn

import msgspec

# the binding asks ldconfig and compilers where its library is; a root image has neither
_find = ctypes.util.find_library
ctypes.util.find_library = {"seccomp": "libseccomp.so.2"}.get  # type: ignore[assignment]
try:
    import pyseccomp
finally:
    ctypes.util.find_library = _find

_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_MODE_FILTER: Final = 2
_INSTRUCTION: Final = 8
"""Bytes of a struct sock_filter."""

_libc = ctypes.CDLL(None, use_errno=True)

_MACHINE = (
    # time, power, code and memory of the whole machine
    "settimeofday clock_settime clock_settime64 adjtimex clock_adjtime clock_adjtime64 stime "
    "reboot kexec_load kexec_file_load init_module finit_module delete_module create_module "
    "query_module get_kernel_syms swapon swapoff acct iopl ioperm vm86 vm86old modify_ldt "
    "quotactl quotactl_fd nfsservctl lookup_dcookie perf_event_open syslog uselib _sysctl sysfs "
    # ways past the file system's checks
    "open_by_handle_at "
    # a second door to many others
    "io_uring_setup io_uring_enter io_uring_register userfaultfd "
)
"""Nobody's."""

_MOUNTING = (
    "mount umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick "
    "mount_setattr setns unshare sethostname setdomainname vhangup bpf "
)
_SPYING = "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd "
_KEYS = "add_key request_key keyctl "
_PLACING = "mbind migrate_pages move_pages set_mempolicy fanotify_init personality "
_RUNNING = "execve execveat "

_NEW_NAMESPACES = (
    *(0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000),
    *(0x1000_0000, 0x2000_0000, 0x4000_0000),
)
"""CLONE_NEWNS, …CGROUP, …UTS, …IPC, …USER, …PID, …NET."""


class Profile(enum.Enum):
    """Classes of services, each with less denied than the one before."""

    CLOSED = "closed"
    """Starts no programs."""
    SPAWNING = "spawning"
    MOUNTING = "mounting"
    """Makes mounts and namespaces too."""
    RUNTIME = "runtime"
    """What containers run under: what they may not do is for their own filter to say."""


_DENIED = {
    Profile.CLOSED: _MACHINE + _MOUNTING + _SPYING + _KEYS + _PLACING + _RUNNING,
    Profile.SPAWNING: _MACHINE + _MOUNTING + _SPYING + _KEYS + _PLACING,
    Profile.MOUNTING: _MACHINE + _SPYING + _KEYS + _PLACING,
    Profile.RUNTIME: _MACHINE,
}


class Filter(msgspec.Struct, frozen=True):
    """A filter as the kernel takes it. `privileged`: it comes without no_new_privs."""

    program: bytes
    privileged: bool


def build_filter(profile: Profile, *, network: bool, privileged: bool) -> Filter:
    """A denied call will fail with EPERM. `network` False: no sockets but Unix ones.

    Costs some megabytes for a moment, so who forks many processes builds it before.
    """
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
    if profile is Profile.RUNTIME:
        # 32-bit programs in containers: their own filter looks at them
        rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ALLOW)
    denied = pyseccomp.ERRNO(errno.EPERM)
    for name in _DENIED[profile].split():
        # a negative number: not in this version of libseccomp, or not on this architecture
        if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
            rules.add_rule(denied, name)
    if profile in (Profile.CLOSED, Profile.SPAWNING):
        for flag in _NEW_NAMESPACES:
            rules.add_rule(denied, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
        # its flags are behind a pointer; told that it doesn't exist, C libraries use clone
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    if not network:
        rules.add_rule(denied, "socket", pyseccomp.Arg(0, pyseccomp.NE, socket.AF_UNIX))
    with tempfile.TemporaryFile() as exported:
        rules.export_bpf(exported)
        exported.seek(0)
        return Filter(exported.read(), privileged)


def load_filter(chosen: Filter) -> None:
    """Irrevocable, for the calling thread and what it starts. Raises OSError."""
    if not chosen.privileged and _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _fail()
    program = ctypes.create_string_buffer(chosen.program, len(chosen.program))
    count = len(chosen.program) // _INSTRUCTION
    whole = struct.pack("HxxxxxxQ", count, ctypes.addressof(program))
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, whole, 0, 0) != 0:
        _fail()


def _fail() -> NoReturn:
    code = ctypes.get_errno() or errno.EINVAL
    raise OSError(code, f"cannot filter system calls: {os.strerror(code)}")
