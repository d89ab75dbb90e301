"""Gives an app the lines of a GPIO chip that it may have, and no others.

    python -S -m edgevirt.host.devices.gpio_warden GRANTS

Whoever opens a GPIO chip may request any line of it. So an app's requests for lines are not made by
the kernel at once: its filter of system calls hands each to the warden (seccomp_unotify(2)), which
looks at the lines, makes the request itself, and puts what it got into the app. From then on the
app reads and writes its lines without a detour. What the warden has not made never happens: it
copies the request before it looks, and lets no call through.

One process for each app. It ends with the app; when it is killed, requests fail with ENOSYS.
Only the standard library is used: an app's start waits for this.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_RECEIVE, _SEND, _IS_VALID, _ADD_FD = 0xC050_2100, 0xC018_2101, 0x4008_2102, 0x4018_2103
_NOTICE: Final = "=QIIiIQ6Q"
"""id, pid, flags; nr, arch, instruction pointer, arguments."""
_ANSWER: Final = "=QqiI"
_ADDED: Final = "=QIIII"
_CLOSE_ON_EXEC: Final = os.O_CLOEXEC
_LINES_V2: Final = 64


class Request(NamedTuple):
    """One kind of request for lines: its size, where its lines and their number are, and where the
    kernel puts the descriptor. `number` None: one line.
    """

    size: int
    lines: int
    number: int | None
    descriptor: int


REQUESTS: Final = {
    0xC250_B407: Request(592, lines=0, number=560, descriptor=588),
    0xC16C_B403: Request(364, lines=0, number=356, descriptor=360),
    0xC030_B404: Request(48, lines=0, number=None, descriptor=44),
}
"""By the number of the ioctl: GPIO_V2_GET_LINE, and of the older interface GPIO_GET_LINEHANDLE and
GPIO_GET_LINEEVENT (linux/gpio.h)."""


class Grant(NamedTuple):
    """`path`: of the chip."""

    path: str
    lines: tuple[int, ...]


class Grants(NamedTuple):
    """`socket`: where the OCI runtime hands over the app's notices. `groups`: of control groups,
    their `cgroup.procs`.
    """

    socket: str
    grants: tuple[Grant, ...]
    groups: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()


Make = Callable[[str, int, bytearray], int]
"""Makes a request (chip's path, ioctl, its bytes) and returns the new descriptor. OSError."""


def lines_of(kind: Request, data: bytes) -> list[int] | None:
    """What is asked for; None: nonsense."""
    count = 1 if kind.number is None else struct.unpack_from("=I", data, kind.number)[0]
    if not 0 < count <= _LINES_V2:
        return None
    return list(struct.unpack_from(f"={count}I", data, kind.lines))


def notified() -> list[dict[str, object]]:
    """What the app's filter hands over; its upper half is what the kernel does not look at."""
    return [
        {
            "names": ["ioctl"],
            "action": "SCMP_ACT_NOTIFY",
            "args": [
                {"index": 1, "value": 0xFFFF_FFFF, "valueTwo": number, "op": "SCMP_CMP_MASKED_EQ"}
            ],
        }
        for number in REQUESTS
    ]


class Warden:
    """`notices`: the descriptor of the app's filter."""

    def __init__(self, notices: int, grants: Iterable[Grant], make: Make | None = None) -> None:
        self._notices = notices
        self._make = make or make_request
        self._grants: dict[int, tuple[str, set[int]]] = {}
        for grant in grants:
            device = os.stat(grant.path).st_rdev
            _, lines = self._grants.setdefault(device, (grant.path, set()))
            lines.update(grant.lines)

    def serve(self) -> None:
        """Until the last process of the app is gone."""
        poller = select.poll()
        poller.register(self._notices, select.POLLIN)
        while True:
            for _, event in poller.poll():
                if event & select.POLLIN:
                    self.serve_one()
                elif event & (select.POLLHUP | select.POLLERR):
                    return

    def serve_one(self) -> None:
        notice = bytearray(struct.calcsize(_NOTICE))
        try:
            fcntl.ioctl(self._notices, _RECEIVE, notice)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return  # the one who asked is gone
            raise
        id_, pid, _, _, _, _, *arguments = struct.unpack(_NOTICE, notice)
        try:
            self._answer(id_, pid, arguments)
            failure = 0
        except OverflowError:
            failure = errno.EFAULT
        except OSError as error:
            failure = error.errno or errno.EIO
        with suppress(OSError):  # gone meanwhile
            fcntl.ioctl(self._notices, _SEND, struct.pack(_ANSWER, id_, 0, -failure, 0))

    def _answer(self, id_: int, pid: int, arguments: list[int]) -> None:
        descriptor, number, address = arguments[:3]
        number &= 0xFFFF_FFFF
        kind = REQUESTS[number]
        path, granted = self._granted(pid, descriptor)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._assert_alive(id_)  # else it may be another process's memory
            data = bytearray(os.pread(memory, kind.size, address))
            if len(data) != kind.size:
                raise OSError(errno.EFAULT, "no such memory")
            lines = lines_of(kind, bytes(data))
            if lines is None:
                raise OSError(errno.EINVAL, "no lines")
            if not granted.issuperset(lines):
                raise OSError(errno.EPERM, "not its lines")
            made = self._make(path, number, data)
            try:
                added = self._add(id_, made)
            finally:
                os.close(made)
            struct.pack_into("=i", data, kind.descriptor, added)
            os.pwrite(memory, data, address)
        finally:
            os.close(memory)

    def _granted(self, pid: int, descriptor: int) -> tuple[str, set[int]]:
        """Whichever device it is by now, the request is made on one that the app has."""
        found = os.stat(f"/proc/{pid}/fd/{descriptor & 0xFFFF_FFFF}")
        known = self._grants.get(found.st_rdev) if stat.S_ISCHR(found.st_mode) else None
        if known is None:
            raise OSError(errno.ENOTTY, "no GPIO chip")
        return known

    def _assert_alive(self, id_: int) -> None:
        fcntl.ioctl(self._notices, _IS_VALID, struct.pack("=Q", id_))

    def _add(self, id_: int, descriptor: int) -> int:
        """The number that it has in the app."""
        asked = struct.pack(_ADDED, id_, 0, descriptor, 0, _CLOSE_ON_EXEC)
        return _ioctl_result(self._notices, _ADD_FD, asked)


def make_request(path: str, number: int, data: bytearray) -> int:
    """Of the kernel."""
    chip = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(chip, number, data)
    finally:
        os.close(chip)
    made: int = struct.unpack_from("=i", data, REQUESTS[number].descriptor)[0]
    return made


_libc: Final = ctypes.CDLL(None, use_errno=True)


def _ioctl_result(descriptor: int, number: int, data: bytes) -> int:
    """fcntl.ioctl keeps a result to itself when it gets bytes."""
    result = int(_libc.ioctl(descriptor, ctypes.c_ulong(number), ctypes.create_string_buffer(data)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def receive_notices(listening: socket.socket) -> int:
    """What the runtime hands over, when it makes the app."""
    line, _ = listening.accept()
    with line:
        descriptors = array.array("i")
        state, ancillary, _, _ = line.recvmsg(1 << 16, socket.CMSG_SPACE(16 * descriptors.itemsize))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    names = json.loads(state).get("fds", [])
    return int(descriptors[names.index("seccompFd")])


def main(arguments: list[str]) -> int:
    """Returns when the socket is there; its child goes on."""
    fields = json.loads(Path(arguments[0]).read_bytes())
    grants = tuple(Grant(path, tuple(lines)) for path, lines in fields["grants"])
    with suppress(FileNotFoundError):
        os.unlink(fields["socket"])
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(fields["socket"])
    listening.listen(1)
    if os.fork():
        return 0
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)  # whoever started it waits for the end of what it says
    for group in fields["groups"]:
        Path(group).write_text(str(os.getpid()))
    notices = receive_notices(listening)
    listening.close()
    Warden(notices, grants).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
