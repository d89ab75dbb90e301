"""A service's process, from fork to its end: gives up its rights, then runs the service."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import uvloop

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.rights.confine import Confinement, confine
from edgevirt.host.rights.landlock import FileRights
from edgevirt.host.rights.seccomp import Filter
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service, Settings
from edgevirt.node.services import Row, row_of
from edgevirt.node.supervisor.records import log_to_stderr
from edgevirt.node.supervisor.status import voice
from edgevirt.runtime.access import guard
from edgevirt.runtime.clock import RealClock
from edgevirt.runtime.socket import SocketStore

_LOG: Final = logging.getLogger("edgevirt.service")

_SYSTEM: Final = tuple(
    Path(path)
    for path in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/sys", "/containers"),
        *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"),
    )
)
"""What any program needs to run at all; it holds no secret of the node."""
_SCRATCH: Final = (Path("/tmp"), Path("/dev/null"), Path("/dev/shm"))  # noqa: S108

_STACK_MAX: Final = 16_384

SPOKESMAN: Final = "supervisor"
FAILED: Final = 1
ENDED: Final = 2
"""Exit codes of a service that raised, and of one that returned, which none should."""


class Work(msgspec.Struct, frozen=True):
    """What all services' processes are given.

    `owners`, `uid_names`: as SocketStore takes them. `beat`: seconds between two heartbeats.
    `programs`: directories of the interpreter and of this package. `filters`: by service.
    """

    paths: Paths
    settings: Settings
    owners: Mapping[str, str]
    uid_names: Mapping[int, str]
    programs: tuple[Path, ...]
    filters: Mapping[str, Filter]
    beat: float = 5.0


def be_service(
    work: Work, limits: Confinement, service: Service, heart: int, parent: int
) -> NoReturn:
    """For a process that was just forked by `parent`.

    `heart`: its end of the channel to the supervisor, which takes a heartbeat as a zero byte. One
    service alone says more there: the one that speaks for the supervisor in the store.
    """
    status = FAILED
    try:
        os.setpgid(0, 0)
        _name_process(service.name)
        _forget_parent(work.paths.service_logs / f"{service.name}.log", keep=heart)
        log_to_stderr(service.name)
        _dump_on_signal(_stack_file(work.paths, service.name))
        confine(limits, parent)
        if service.name == SPOKESMAN:
            service = voice(heart)
        status = run_service(work, service, heart)
    except BaseException:  # noqa: BLE001 - whatever it was, this process must end here
        _LOG.exception("cannot run %s", service.name)
    finally:
        os._exit(status)


def _stack_file(paths: Paths, service: str) -> Path:
    return paths.service_logs / f"{service}.stack"


def _dump_on_signal(path: Path) -> None:
    """SIGUSR1, or a crash: the stacks of all threads, written even when the interpreter does not
    turn.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)
    faulthandler.enable(file=fd, all_threads=True)


def read_stack(paths: Paths, service: str) -> str:
    """What it wrote down last; empty when it did not."""
    try:
        with _stack_file(paths, service).open("rb") as file:
            return file.read(_STACK_MAX).decode(errors="replace")
    except OSError:
        return ""


def _name_process(service: str) -> None:
    """As `ps` and `top` show it."""
    comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(comm, f"ev-{service}".encode()[:15])
    os.close(comm)


def confinement(work: Work, row: Row) -> Confinement:
    return Confinement(
        uid=row.uid,
        gid=row.uid,
        groups=tuple(row_of(name).uid for name in row.groups),
        capabilities=row.capabilities,
        network=row.network,
        no_new_privileges=row.no_new_privileges,
        filter=work.filters[row.name],
        files=_file_rights(work, row),
        umask=row.umask,
    )


def service_group(settings: Settings, name: str) -> Cgroup:
    return Cgroup(f"{settings.cgroup}/services/{name}")


def _file_rights(work: Work, row: Row) -> FileRights | None:
    if row.reads is None or row.writes is None:
        return None
    kinds = tuple(
        work.paths.kinds / kind for kind, owner in work.owners.items() if owner == row.name
    )
    devices = tuple(
        Path(device) for label, device in work.settings.partitions if label in row.partitions
    )
    return FileRights(
        read=tuple(getattr(work.paths, name) for name in row.reads),
        write=(
            work.paths.sockets,
            *kinds,
            *devices,
            *_SCRATCH,
            *(getattr(work.paths, name) for name in row.writes),
        ),
        execute=(*_SYSTEM, *work.programs),
    )


def _forget_parent(log: Path, keep: int) -> None:
    """Nothing of the supervisor's stays open: stdin is empty, all output goes into the log."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    owner = row_of("logs").uid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchown(output, owner, owner)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != keep:
            _close_unless_pipe(descriptor)


def _close_unless_pipe(number: int) -> None:
    """A pipe is libuv's own, made in the warm-up: without it the loop aborts at the first fork."""
    with contextlib.suppress(OSError):
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            os.close(number)


def run_service(work: Work, service: Service, heart: int) -> int:
    """Until it ends, or SIGTERM. Returns an exit code."""
    gc.enable()
    gc.collect()  # counts anew: among the parent's frozen objects much garbage would seem little
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(work, service, heart))


async def _live(work: Work, service: Service, heart: int) -> int:
    """Until SIGTERM (0), or the service ends by itself."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    beating = asyncio.create_task(beat(heart, work.beat))
    try:
        async with _store(work, service) as store:
            guarded = guard(store, service.reads, service.owns)
            context = Context(service.name, guarded, RealClock(), work.paths, work.settings)
            running = asyncio.create_task(service.run(context))
            ending = asyncio.create_task(asked.wait())
            await asyncio.wait([running, ending], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            return await _end(running, service.name)
    finally:
        beating.cancel()


async def _end(running: asyncio.Task[None], name: str) -> int:
    if not running.done():
        running.cancel()
        await asyncio.wait([running])
        return 0
    error = running.exception()
    if error is None:
        _LOG.error("%s ended by itself", name)
        return ENDED
    _LOG.error("%s failed: %s", name, error, exc_info=error)
    return FAILED


def _store(work: Work, service: Service) -> SocketStore:
    """What should be is held back until the service has loaded it once in this run."""
    return SocketStore(
        work.paths.sockets,
        service.name,
        service.owns,
        service.reads,
        uid_names=work.uid_names,
        persist_dir=work.paths.kinds,
        owners=work.owners,
        held=[kind for kind in service.owns if not kind.report],
    )


async def beat(heart: int, seconds: float) -> None:
    """Says that the event loop turns. A full channel means that nobody has listened for long."""
    os.set_blocking(heart, False)
    while True:
        try:
            os.write(heart, b"\0")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            return
        await asyncio.sleep(seconds)
