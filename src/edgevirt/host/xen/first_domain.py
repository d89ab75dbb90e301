"""Xen's first domain: whether this machine's kernel is one, and the two programs that it takes.

`xenstored` is what domains know of each other. It cannot be started anew while there are any, so
process 1 starts it, before all services, and nothing ends it but the machine's end.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgevirt.host.stage import mount

PROGRAMS: Final = Path("/usr/lib/xen-4.17/bin")
STORE: Final = Path("/run/xenstored/socket")
KIND: Final = Path("/run/eve-hv-type")
"""One word for whoever looks at the running machine: which hypervisor it has. EVE's place."""
_TYPE: Final = Path("/sys/hypervisor/type")
_CAPABILITIES: Final = Path("/proc/xen/capabilities")
_FEATURES: Final = Path("/sys/hypervisor/properties/capabilities")
_MODULES: Final = (
    *("xenfs", "xen_evtchn", "xen_gntdev", "xen_gntalloc", "xen_privcmd"),
    *("xen_blkback", "xen_netback", "xen_acpi_processor"),
    *("sch_ingress", "cls_u32", "act_mirred"),  # domains' interfaces and their taps
)
_DIRECTORIES: Final = (
    *("/run/xen", "/run/xenstored", "/run/lock"),
    *("/var/lib/xen", "/var/log/xen"),
)
_LINKS: Final = {"/var/run": "/run", "/var/lock": "/run/lock"}
_READY_SECONDS: Final = 60.0
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


class XenError(Exception):
    """«cannot X: why»."""


def is_xen(kind: Path = _TYPE) -> bool:
    """Whether a Xen runs below this kernel, as its first domain or another one."""
    with suppress(OSError):
        return kind.read_text().strip() == "xen"
    return False


def starts_with_hardware(features: Path = _FEATURES) -> bool:
    """Whether the processor helps: then domains can be PVH; without it they are PV."""
    with suppress(OSError):
        return "hvm-" in features.read_text()
    return False


def be_first_domain() -> str:
    """Makes this machine able to start domains. Returns how many seconds that took, in words.

    Idempotent. Raises XenError, OSError.
    """
    began = time.monotonic()
    _prepare()
    if not STORE.exists():
        _start("xenstored", "--no-fork", "--pid-file", "/run/xen/xenstored.pid")
        _await_store()
        _run("xen-init-dom0")
        _start("xenconsoled", "--interactive", "--log=none")
    return f"Xen's first domain ({time.monotonic() - began:.1f} s)"


def _prepare() -> None:
    subprocess.run(["modprobe", "-a", "-q", *_MODULES], stdin=subprocess.DEVNULL, check=False)
    if not _CAPABILITIES.exists():
        mount("xenfs", Path("/proc/xen"), "xenfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "")
    if "control_d" not in _CAPABILITIES.read_text():
        raise XenError("cannot start domains: this machine is one itself, and not the first")
    for name in _DIRECTORIES:
        Path(name).mkdir(parents=True, exist_ok=True)
    for name, target in _LINKS.items():
        with suppress(FileExistsError):
            os.symlink(target, name)


def _await_store() -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not STORE.exists():
        if time.monotonic() > deadline:
            raise XenError(f"cannot start domains: xenstored is silent for {_READY_SECONDS:.0f} s")
        time.sleep(0.02)


def _start(program: str, *arguments: str) -> None:
    """A child of this process for ever; what it says is said on the console."""
    try:
        subprocess.Popen(
            [PROGRAMS / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(),
        )
    except OSError as error:
        raise XenError(f"cannot start {program}: {error.strerror or error}") from error


def _run(program: str) -> None:
    try:
        done = subprocess.run(
            [PROGRAMS / program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_READY_SECONDS,
            env=_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise XenError(f"cannot run {program}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise XenError(f"cannot run {program}: {said[-1] if said else done.returncode}")


def _environment() -> Mapping[str, str]:
    return {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
