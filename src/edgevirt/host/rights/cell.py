"""Starts one program with next to no rights.

    python -S -m edgevirt.host.rights.cell create --bundle DIRECTORY --pid-file FILE ID
    python -S -m edgevirt.host.rights.cell run CELL

`create` is for conmon to call, as an OCI runtime. The bundle's `cell.json` (a Cell) says what to
run and which files, taps and sockets it finds open. The program has a user of its own without any
capability, no network, no way to gain rights, and (where the kernel has Landlock) no file but those
that it needs to run. It can use what is open.

`run` becomes the program, for tools that look at what somebody else made: its user stays the
caller's, and its argument says the rest.

Only the standard library is used: the start of a guest waits for this.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from edgevirt.host.rights.landlock import FileRights, restrict_files

_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 2.0
_CLONE_NEWNET: Final = 0x4000_0000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR = 2, 4
_DAC_READ_SEARCH: Final = 2
_ALL_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_TUNSETIFF: Final = 0x4004_54CA
_TAP, _NO_PACKET_INFO, _VIRTIO_HEADER = 0x0002, 0x1000, 0x4000
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/proc", "/sys")

PROGRAM_IN_CELL: Final = (sys.executable, "-S", "-m", "edgevirt.host.rights.cell")
"""Whoever calls it gives it this environment too."""
ENVIRONMENT: Final = {
    "PYTHONPATH": str(Path(__file__).parents[3]),
    "PYTHONDONTWRITEBYTECODE": "1",
}

_libc = ctypes.CDLL(None, use_errno=True)


class CellError(Exception):
    """«cannot X: why»."""


class OpenFile(NamedTuple):
    """A file that the program finds open. `descriptor`: its number there, above 9.

    `copied`: what it finds is a sealed copy in memory, which it may also open by
    `/proc/self/fd`, whoever owns the file.
    """

    descriptor: int
    path: str
    writable: bool = False
    copied: bool = False


class Companion(NamedTuple):
    """A program that works for the one in the cell, with as few rights, by a line between both: a
    connected pair of sockets. `theirs`: the descriptor of the program's end; `ours`: of its own.
    It should end when the line does; whatever it does, it ends with the control group.
    """

    command: tuple[str, ...]
    theirs: int
    ours: int
    files: tuple[OpenFile, ...] = ()
    writes: tuple[str, ...] = ()


class Cell(NamedTuple):
    """`command`: the program and its arguments. `groups`: of control groups, their `cgroup.procs`.

    `sockets`: listening ones, of the kind unix; the first is a QEMU monitor's: the program counts
    as started when it answers there. `taps`: descriptor and interface. `output`: the descriptor
    that is standard output once more (QEMU takes none below 3). `netns`: empty for one of its own.
    `reads`, `writes`: paths that it may open itself, besides programs and libraries; `reads_all`:
    whoever owns what it reads. `memory`: of its address space, `written`: of each file that it
    writes, in bytes; 0: no bound. `pins_memory`: a device of the machine's reads and writes its
    memory.
    """

    command: tuple[str, ...]
    uid: int = -1
    groups: tuple[str, ...] = ()
    files: tuple[OpenFile, ...] = ()
    taps: tuple[tuple[int, str], ...] = ()
    sockets: tuple[tuple[int, str], ...] = ()
    output: int = 0
    netns: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads_all: bool = False
    memory: int = 0
    written: int = 0
    companions: tuple[Companion, ...] = ()
    pins_memory: bool = False

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()


def decode(data: bytes) -> Cell:
    fields: dict[str, Any] = json.loads(data)
    files = _files(fields.pop("files"))
    companions = tuple(
        Companion(tuple(command), theirs, ours, _files(opened), tuple(writes))
        for command, theirs, ours, opened, writes in fields.pop("companions")
    )
    pairs = {name: tuple(map(tuple, fields.pop(name))) for name in ("taps", "sockets")}
    rest = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return Cell(files=files, companions=companions, **pairs, **rest)  # type: ignore[arg-type]


def _files(fields: list[list[Any]]) -> tuple[OpenFile, ...]:
    return tuple(OpenFile(*one) for one in fields)


def create(bundle: Path, pid_file: Path) -> None:
    """Returns when the program answers. Raises CellError, OSError."""
    cell = decode((bundle / "cell.json").read_bytes())
    listening = [(number, _listen(path, cell.uid)) for number, path in cell.sockets]
    lines = [(one.theirs, _start(cell, one)) for one in cell.companions]
    pid = os.fork()
    if pid == 0:
        _be_program(cell, [*listening, *lines])
    for _, one in (*listening, *lines):
        one.close()
    try:
        _await_answer(cell.sockets[0][1])
    except (OSError, CellError) as failure:
        why = _end(pid) or str(failure)
        raise CellError(f"cannot start {Path(cell.command[0]).name}: {why}") from failure
    pid_file.write_text(str(pid))


def _end(pid: int) -> str:
    """Of a child that does not answer: how it ended, in words; empty: it was still there."""
    handle = os.pidfd_open(pid)
    try:
        itself = bool(select.select([handle], [], [], _END_SECONDS)[0])
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not itself:
        return ""
    if code == -signal.SIGKILL:
        return "it was killed, as what needs more memory than its app may have is"
    return f"it ended with exit code {code}" if code >= 0 else f"it ended by signal {-code}"


def _start(cell: Cell, companion: Companion) -> socket.socket:
    """The program's end of the line."""
    theirs, ours = socket.socketpair()
    if os.fork() == 0:
        theirs.close()
        own = Cell(
            companion.command,
            uid=cell.uid,
            groups=cell.groups,
            files=companion.files,
            writes=companion.writes,
        )
        _be_program(own, [(companion.ours, ours)])
    ours.close()
    return theirs


def run(cell: Cell) -> NoReturn:
    """Becomes the program. Raises CellError, OSError."""
    _drop_rights(cell)
    _execute(cell)


def _listen(path: str, uid: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    with suppress(FileNotFoundError):
        os.unlink(path)
    listening.bind(path)
    listening.listen(2)
    return listening


def _await_answer(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(_ANSWER_SECONDS)
        monitor.connect(path)
        # it greets early, and answers when all of the machine is made
        monitor.sendall(b'{"execute": "qmp_capabilities"}')
        heard = b""
        while b'"return"' not in heard:
            said = monitor.recv(4096)
            if not said:
                raise CellError("it ended")
            heard += said


def _be_program(cell: Cell, listening: list[tuple[int, socket.socket]]) -> NoReturn:
    """For a process that was just forked."""
    try:
        os.setsid()
        for group in cell.groups:
            Path(group).write_text(str(os.getpid()))
        kept = [(number, one.detach()) for number, one in listening]
        kept += [(one.descriptor, _open(one)) for one in cell.files]
        kept += [(number, open_tap(name)) for number, name in cell.taps]
        if cell.output:
            kept.append((cell.output, os.dup(1)))
        _number(kept)
        _enter_network(cell.netns)
        _drop_rights(cell)
        _execute(cell)
    except BaseException as failure:  # noqa: BLE001 - whatever it was, this process must end here
        sys.stderr.write(f"{failure}\n")
        sys.stderr.flush()
    finally:
        os._exit(126)


def _open(one: OpenFile) -> int:
    flags = (os.O_RDWR if one.writable else os.O_RDONLY) | os.O_CLOEXEC
    if one.path.startswith("/dev/"):  # a serial port: not to wait for its other end
        flags |= os.O_NOCTTY | os.O_NONBLOCK
    opened = os.open(one.path, flags)
    return _copy(opened) if one.copied else opened


def _copy(source: int) -> int:
    """Into memory that nobody can change any more."""
    copy = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    while os.sendfile(copy, source, None, 1 << 30):
        pass
    os.close(source)
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _ALL_SEALS)
    return copy


def open_tap(name: str) -> int:
    """A queue of an interface that is there, in the present network namespace. Raises CellError."""
    try:
        socket.if_nametoindex(name)  # the kernel would make another one
    except OSError as failure:
        raise CellError(f"cannot open interface {name}: there is none") from failure
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = _TAP | _NO_PACKET_INFO | _VIRTIO_HEADER
    try:
        fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as failure:
        raise CellError(f"cannot open interface {name}: {failure}") from failure
    return opened


def _number(kept: list[tuple[int, int]]) -> None:
    """Gives each descriptor its number, first out of the others' way."""
    high = [(number, fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 512)) for number, opened in kept]
    for number, opened in high:
        os.dup2(opened, number, inheritable=True)


def _enter_network(netns: str) -> None:
    if not netns:
        _checked(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
        return
    opened = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    _checked(_libc.setns(opened, _CLONE_NEWNET), "enter the network namespace")
    os.close(opened)


def _execute(cell: Cell) -> NoReturn:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    os.execve(cell.command[0], list(cell.command), environment)  # noqa: S606


def _drop_rights(cell: Cell) -> None:
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds the guest's secrets
    for kind, bound in ((resource.RLIMIT_AS, cell.memory), (resource.RLIMIT_FSIZE, cell.written)):
        if bound:
            resource.setrlimit(kind, (bound, bound))
    if cell.pins_memory:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    for number in range(64):
        if not (cell.reads_all and number == _DAC_READ_SEARCH):
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    if cell.uid >= 0:
        os.setgroups([])
        os.setresgid(cell.uid, cell.uid, cell.uid)
        os.setresuid(cell.uid, cell.uid, cell.uid)
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0), "give up capabilities")
    kept = 1 << _DAC_READ_SEARCH if cell.reads_all else 0
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _checked(
        _libc.capset(header, struct.pack("<6I", *3 * (kept,), *3 * (0,))), "give up capabilities"
    )
    if kept:
        _checked(
            _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, _DAC_READ_SEARCH, 0, 0), "keep reading"
        )
    os.umask(0o077)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up gaining rights")
    rights = FileRights(
        read=tuple(map(Path, (*cell.reads, *_DEVICES))),
        execute=tuple(map(Path, _SYSTEM)),
        write=tuple(map(Path, ("/dev/null", *cell.writes))),
    )
    restrict_files(rights)


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno() or errno.EINVAL
        raise CellError(f"cannot {what}: {os.strerror(code)}")


def main(arguments: list[str]) -> int:
    """conmon's words: `create --bundle B --pid-file P ID`; or `run CELL`."""
    given = dict(itertools.pairwise(arguments))
    try:
        if "run" in given:
            run(decode(given["run"].encode()))
        create(Path(given["--bundle"]), Path(given["--pid-file"]))
    except (CellError, OSError, KeyError, ValueError) as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
