"""Filters on system calls: what no service of a class has any reason to ask the kernel for."""

from __future__ import annotations

import enum
import errno
import socket

import pyseccomp

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


def load_filter(profile: Profile, *, network: bool, privileged: bool) -> None:
    """Irrevocable, for the calling process and what it starts. A denied call fails with EPERM.

    `network` False: no sockets but Unix ones. `privileged`: set no no_new_privs along with it.
    """
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.CTL_NNP, 0 if privileged else 1)
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
    rules.load()
