"""From a domain to the OCI runtime's `config.json`. Pure: nothing here touches the machine.

What an app may do is what Docker's defaults admit, less the setuid way up.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from edgevirt.host.container.rootfs import User
from edgevirt.host.container.syscalls import seccomp
from edgevirt.host.devices.gpio_warden import notified
from edgevirt.host.devices.of_container import (
    DeviceNode,
    Given,
    allowed,
    runtime_devices,
    variables,
)
from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import Domain

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_OVERRIDE = "EVE_ECO_CMD"
"""User data of this name replaces the image's command; split at white space, as EVE does, but for
what is quoted as in a shell: a word of an App's command may have spaces in it."""

_CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]
_MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_CPU_PERIOD = 100_000
_MAX_PIDS = 4096


class VolumeMount(msgspec.Struct, frozen=True):
    """A volume, mounted at `source` on the node, to appear at `target` in the container."""

    source: str
    target: str
    readonly: bool = False


class Surroundings(msgspec.Struct, frozen=True):
    """What the adapter made for a container. Paths are the node's."""

    root: str
    user: User
    cgroup: str
    limit_swap: bool
    max_files: int
    """Open files of one process; more than the node itself may have cannot be given."""
    resolv_conf: str
    hosts: str
    volumes: tuple[VolumeMount, ...] = ()
    given: Given = msgspec.field(default_factory=Given)


def command(image: ImageConfig, environment: Mapping[str, str]) -> list[str]:
    """Raises UnfitError when there is none."""
    try:
        override = shlex.split(environment.get(COMMAND_OVERRIDE, ""))
    except ValueError as error:
        raise UnfitError(f"cannot read {COMMAND_OVERRIDE}: {error}") from None
    words = override or [*image.entrypoint, *image.cmd]
    if not words:
        raise UnfitError(
            "cannot run the image: it names no command; build it with an entrypoint, or give the "
            f"App a command ({COMMAND_OVERRIDE} in user data)"
        )
    return words


def merged(
    image: ImageConfig, environment: Mapping[str, str], nodes: tuple[DeviceNode, ...] = ()
) -> list[str]:
    """The app's environment: of its devices, the image's, and over these what user data says."""
    found = {
        "PATH": PATH,
        **variables(nodes),
        **dict(_pair(entry) for entry in image.env),
        **environment,
    }
    return [f"{name}={value}" for name, value in found.items()]


def directory(image: ImageConfig) -> str:
    """That the app starts in."""
    return posixpath.normpath(posixpath.join("/", image.workdir))


def mount_target(wanted: str, index: int) -> str:
    """Where a volume appears in the container; one that says nothing gets EVE's place.

    Raises UnfitError for a place that isn't one.
    """
    if not wanted:
        return f"/dev/eve/volumes/by-id/{index}"
    clean = posixpath.normpath(wanted)
    parts = wanted.split("/")
    if not wanted.startswith("/") or clean in ("/", "//") or ".." in parts or "\0" in wanted:
        raise UnfitError(f"cannot mount a volume at {wanted!r}: not a directory's full path")
    if clean.startswith(("/proc/", "/sys/")) or clean in ("/proc", "/sys", "/dev"):
        raise UnfitError(f"cannot mount a volume at {wanted!r}: the system's own")
    return clean


def runtime_config(
    domain: Domain, environment: Mapping[str, str], around: Surroundings
) -> dict[str, object]:
    """The OCI runtime specification's `config.json`, version 1.0.2. Raises UnfitError."""
    return {
        "ociVersion": "1.0.2",
        "hostname": domain.hostname or domain.app,
        "root": {"path": around.root, "readonly": bool(domain.volumes and _root_readonly(domain))},
        "process": _process(domain.image, environment, around),
        "mounts": [*_system_mounts(), *_own_mounts(around)],
        "linux": {
            "cgroupsPath": "/" + around.cgroup,
            "devices": runtime_devices(around.given.nodes, around.user.uid, around.user.gid),
            "resources": _resources(domain, around),
            "namespaces": _namespaces(domain.netns),
            "maskedPaths": _MASKED,
            "readonlyPaths": _READONLY,
            "seccomp": _seccomp(around),
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        },
    }


def _seccomp(around: Surroundings) -> dict[str, object]:
    """An app with lines of a GPIO chip has somebody who looks at its requests for them."""
    profile = seccomp()
    if not around.given.warden:
        return profile
    rules = [*cast("list[dict[str, object]]", profile["syscalls"]), *notified()]
    return {**profile, "syscalls": rules, "listenerPath": around.given.warden}


def hosts_file(hostname: str) -> str:
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t{hostname}\n"


def resolv_conf(servers: Sequence[str]) -> str:
    return "".join(f"nameserver {server}\n" for server in servers)


def _root_readonly(domain: Domain) -> bool:
    return domain.volumes[0].readonly


def _process(
    image: ImageConfig, environment: Mapping[str, str], around: Surroundings
) -> dict[str, object]:
    user = around.user
    return {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": command(image, environment),
        "env": merged(image, environment, around.given.nodes),
        "cwd": directory(image),
        # not inheritable: a non-root user's programs must not gain them by file capabilities
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        "noNewPrivileges": True,
        "oomScoreAdj": 0,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": around.max_files, "soft": around.max_files}],
    }


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _system_mounts() -> list[dict[str, object]]:
    safe = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", "proc", *safe),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            *("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", *safe),
        _mount("/sys", "sysfs", "sysfs", *safe, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
    ]


def _own_mounts(around: Surroundings) -> list[dict[str, object]]:
    mounts = [
        _mount("/etc/resolv.conf", "bind", around.resolv_conf, "bind", "ro", "nosuid", "nodev"),
        _mount("/etc/hosts", "bind", around.hosts, "bind", "ro", "nosuid", "nodev"),
    ]
    for volume in sorted(around.volumes, key=lambda volume: volume.target.count("/")):
        access = "ro" if volume.readonly else "rw"
        mounts.append(
            _mount(volume.target, "bind", volume.source, "rbind", access, "nosuid", "nodev")
        )
    return mounts


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _resources(domain: Domain, around: Surroundings) -> dict[str, object]:
    resources: dict[str, object] = {
        "devices": [{"allow": False, "access": "rwm"}, *allowed(around.given.nodes)],
        "pids": {"limit": _MAX_PIDS},
    }
    if domain.cpus:
        resources["cpu"] = {"cpus": ",".join(map(str, domain.cpus))}
    elif domain.vcpus:
        resources["cpu"] = {"period": _CPU_PERIOD, "quota": _CPU_PERIOD * domain.vcpus}
    if domain.memory_kib:
        memory = {"limit": domain.memory_kib * 1024}
        if around.limit_swap:
            memory["swap"] = memory["limit"]  # memory and swap together: no swap
        resources["memory"] = memory
    return resources


def _namespaces(network: str) -> list[dict[str, str]]:
    """Own ones; no network of its own means an empty one, never the node's."""
    own: list[dict[str, str]] = [
        {"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")
    ]
    return [*own, {"type": "network", "path": network} if network else {"type": "network"}]
