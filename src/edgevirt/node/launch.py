"""Host mode: a node out of a part of this machine.

The process that is started stays outside: it makes the node's first process in namespaces of its
own, connects it, waits for it, and leaves nothing behind. A reboot of the node is a new first
process in new namespaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from msgspec.structs import replace

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.disk.config_partition import read_files
from edgevirt.host.rights.death import die_with
from edgevirt.host.rights.namespace import (
    NODE_INTERFACE,
    Namespaces,
    Uplink,
    isolate_mounts,
    mount_proc,
    mount_sys,
    network_namespace_of,
    setns,
    unshare,
)
from edgevirt.host.stage import HOME, TPM, name_hosts, running_programs, set_stage
from edgevirt.host.tpm.measure import measure_config
from edgevirt.node.given import write_config
from edgevirt.node.init import REBOOT, be_init
from edgevirt.node.paths import Paths
from edgevirt.node.service import Settings
from edgevirt.node.services import ROWS, Row
from edgevirt.node.supervisor.keeping import Limits
from edgevirt.node.supervisor.start import supervise
from edgevirt.node.supervisor.supervisor import Options

CONTROLLER: Final = ""
"""As an address in `HostNode.hosts`: this machine, as the node reaches it."""
FAILED: Final = 1

_STOP_MARGIN: Final = 10.0
_CLEAN_TRIES: Final = 100
_CLEAN_PAUSE: Final = 0.05


class LaunchError(Exception):
    """«cannot start the node: why»."""


class HostNode(msgspec.Struct, frozen=True):
    """What a node on this machine is made of.

    state         its directory: `persist` and what identifies it.
    config        the files that it is given: `server`, `root-certificate.pem` and so on.
    hosts         names that it resolves, to addresses or to CONTROLLER.
    nameservers   of its DNS; none: the names in `hosts` alone.
    forwards      port of the uplink's host address → TCP port of this machine's loopback.
    masquerade    whether it may go out through this machine.
    stop_seconds  that apps get to end by themselves.
    pace          what pauses between questions to the controller are multiplied by.
    rows          the services to run.
    tpm           a TPM 2.0 of its own, as a socket (swtpm's); this machine's is never used.
    """

    state: Path
    config: Path
    serial: str = ""
    hostname: str = "edge-node"
    hosts: Mapping[str, str] = msgspec.field(default_factory=dict)
    nameservers: tuple[str, ...] = ()
    forwards: Mapping[int, int] = msgspec.field(default_factory=dict)
    masquerade: bool = False
    subnet: IPv4Network | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    beat: float = 5.0
    stop_seconds: float = 30.0
    pace: float = 1.0
    rows: tuple[Row, ...] = ROWS
    tpm: Path | None = None

    @property
    def group(self) -> str:
        """Root of its control groups, distinct for each state directory."""
        digest = hashlib.sha256(os.fsencode(self.state.resolve())).hexdigest()
        return f"edgevirt-{digest[:8]}"


def run_host_node(node: HostNode) -> int:
    """Runs the node until SIGTERM, SIGINT or a shutdown. Needs root. Returns an exit code.

    Raises LaunchError. What an earlier run of the same state directory left is removed first.
    """
    if os.geteuid() != 0:
        raise LaunchError("cannot start the node: only root can; namespaces need it")
    for name in ("server", "root-certificate.pem"):
        if not (node.config / name).is_file():
            raise LaunchError(f"cannot start the node: {node.config} holds no file {name}")
    (node.state / "persist").mkdir(parents=True, exist_ok=True)
    with _locked(node.state), _Signals() as signals:
        node = replace(node, serial=node.serial or _soft_serial(node.state))
        while True:
            code = _run_once(node, signals)
            if code != REBOOT or signals.asked:
                return code


class _Signals:
    """What this process waits for. They stay blocked, in the node's first process too."""

    awaited: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False
        """Somebody wants the node to stop."""

    def __enter__(self) -> _Signals:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self.awaited)
        return self

    def __exit__(self, *failure: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait_for(self, pid: int, seconds: float) -> int:
        """Until the node's first process ends; once asked to stop, killed after `seconds`."""
        deadline: float | None = None
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if self.asked and deadline is None:
                deadline = time.monotonic() + seconds
                os.kill(pid, signal.SIGTERM)
            if deadline is not None and time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
            left = 3600.0 if deadline is None else max(0.1, deadline - time.monotonic())
            told = signal.sigtimedwait(self.awaited, left)
            if told is not None and told.si_signo != signal.SIGCHLD:
                self.asked = True


def _run_once(node: HostNode, signals: _Signals) -> int:
    _clean(node)
    ours, theirs = socket.socketpair()
    try:
        with ours:
            pid = _fork_into_namespaces(node, ours, theirs)
            theirs.close()
            try:
                _connect(node, pid, ours)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            patience = node.stop_seconds + node.limits.grace + _STOP_MARGIN
            code = signals.wait_for(pid, patience)
        return code if code >= 0 else FAILED
    finally:
        _clean(node)


def _fork_into_namespaces(node: HostNode, ours: socket.socket, theirs: socket.socket) -> int:
    """The node's first process. Our children's PID namespace changes, and only for this fork."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    outside = os.getpid()
    try:
        unshare(Namespaces.PID)
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.close(own)
            _be_first(node, theirs, outside)
        setns(own, Namespaces.PID)
    finally:
        os.close(own)
    return pid


def _connect(node: HostNode, pid: int, line: socket.socket) -> None:
    """Once the first process has its namespaces: its uplink, and the word to go on."""
    if not line.recv(1):
        return  # it died; whoever waits for it will see
    namespace = network_namespace_of(pid)
    try:
        addresses = Uplink(node.state).open(
            namespace, subnet=node.subnet, forwards=node.forwards, masquerade=node.masquerade
        )
    finally:
        os.close(namespace)
    line.sendall(str(addresses.host).encode())
    _tell_where(node, pid)


def _tell_where(node: HostNode, pid: int) -> None:
    """All that this process says: what the node itself says is inside."""
    inside = f"/proc/{pid}/root{HOME}/run"
    server = " ".join((node.config / "server").read_text().split())
    for text in (
        f"node: runs as process {pid} on {node.state}, and calls {server}",
        f"  how it fares: {inside}/console/diagnosis",
        f"  what its services say: {inside}/logs",
        "  Ctrl-C, or SIGTERM, stops it and its apps",
    ):
        print(text, file=sys.stderr, flush=True)


# -- inside --------------------------------------------------------------------------------------


def _be_first(node: HostNode, line: socket.socket, outside: int) -> NoReturn:
    """Process 1: its namespaces, its file system, then init."""
    status = FAILED
    try:
        die_with(0)  # as a parent in another PID namespace is called
        unshare(Namespaces.MOUNT | Namespaces.UTS | Namespaces.IPC | Namespaces.NETWORK)
        line.sendall(b"\0")
        host = line.recv(64).decode()
        line.close()
        if host:
            status = _be_node(node, host)
    except Exception as error:  # noqa: BLE001 - this process must end here
        print(f"edgevirt: cannot start the node: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _be_node(node: HostNode, host: str) -> int:
    config = read_files(node.config)
    isolate_mounts()
    mount_proc()
    mount_sys()
    set_stage(node.state / "persist", running_programs(), node.tpm)
    paths = Paths(
        config=HOME / "config", persist=HOME / "persist", run=HOME / "run", tpm=HOME / TPM
    )
    measure_config(config, paths.measured, paths.firmware_log, paths.tpm, HOME)
    write_config(config, paths.config)
    names = {name: address or host for name, address in node.hosts.items()}
    name_hosts({node.hostname: "127.0.1.1", **names}, node.nameservers)
    socket.sethostname(node.hostname)
    settings = Settings(
        pace=node.pace, serial=node.serial, uplink=NODE_INTERFACE, cgroup=node.group, host_mode=True
    )

    def start(fresh: bool) -> int:
        options = Options(limits=node.limits, beat=node.beat, fresh=fresh)
        return supervise(paths, settings, options, node.rows)

    return be_init(start, node.stop_seconds)


# -- what stays outside --------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One run of a state directory at a time."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"cannot start the node: one runs in {state} already") from None
        yield


def _soft_serial(state: Path) -> str:
    """A number that this machine does not have, made once for the state directory."""
    path = state / "serial"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text().strip()


def _clean(node: HostNode) -> None:
    """Removes what a run of this state directory left on the machine. Idempotent.

    Its processes end with its first one, which ends with the process that started it; the kernel
    may take a moment.
    """
    groups = [Cgroup(node.group), Cgroup(f"{node.group}-user-apps")]
    for _ in range(_CLEAN_TRIES):
        groups = [group for group in groups if not group.remove()]
        if not groups:
            return Uplink(node.state).close()
        time.sleep(_CLEAN_PAUSE)
    raise LaunchError(f"cannot remove the control group {groups[0].path}: still in use")
