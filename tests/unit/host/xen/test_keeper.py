"""A domain's keeper, with a stand-in for Xen: a program `xl`, a store and a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import struct
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.host.xen import keeper
from edgevirt.host.xen.console import Console, listen
from edgevirt.host.xen.keeper import CRASHED, GONE, Kept
from edgevirt.host.xen.store import DOMAIN_ENDED, XenStore

NAME = "app.1.1"
XL = """\
#!/bin/sh
# keeps one domain as a line of `xl list -v` in a file
state={directory}/state
case $1 in
  create) echo "{name} 3 128 1 -b---- 1.0 uuid -" >$state ;;
  destroy) rm -f $state ;;
  list) echo "Name ID Mem VCPUs State Time(s) UUID Reason-Code"; cat $state 2>/dev/null ;;
esac
echo "$*" >>{directory}/asked
"""


class StandIn:
    """`state`: the domain's line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.xl = directory / "xl"
        self.xl.write_text(XL.format(directory=directory, name=NAME))
        self.xl.chmod(0o755)
        self.kept = Kept(NAME, str(self.xl), str(directory / "domain.cfg"))
        self._there: socket.socket | None = None

    def connect(self) -> XenStore:
        here, self._there = socket.socketpair()
        self._server = threading.Thread(target=self._serve, args=(self._there,))
        self._server.start()
        return XenStore(here)

    def _serve(self, there: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):  # it ends with a word unread
            while head := there.recv(16, socket.MSG_WAITALL):
                kind, _, _, size = struct.unpack("=IIII", head)
                asked = there.recv(size, socket.MSG_WAITALL)
                answer = os.ttyname(self._slave).encode() if b"console/tty" in asked else b"OK\0"
                there.sendall(struct.pack("=IIII", kind, 0, 0, len(answer)) + answer)

    def ends(self, flags: str, reason: str) -> None:
        self.state.write_text(f"{NAME} 3 128 1 {flags} 1.0 uuid {reason}\n")
        self.tell()

    def tell(self) -> None:
        """That some domain ended."""
        assert self._there is not None
        content = DOMAIN_ENDED.encode() + b"\0" + DOMAIN_ENDED.encode() + b"\0"
        self._there.sendall(struct.pack("=IIII", 15, 0, 0, len(content)) + content)

    def close(self) -> None:
        for terminal in (self.master, self._slave):
            os.close(terminal)
        if self._there is not None:
            self._there.shutdown(socket.SHUT_RDWR)
            self._server.join()
            self._there.close()

    def await_creates(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while sum(line.startswith("create") for line in self.asked()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()


@pytest.fixture
def xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made = StandIn(tmp_path)
    monkeypatch.setattr(XenStore, "connect", lambda: made.connect())
    yield made
    made.close()


class Keeping:
    """A keeper in a thread. `code`: what it ended with."""

    def __init__(self, xen: StandIn, output: int) -> None:
        self.code: int | None = None
        self._xen = xen
        self._console = Console(output, listen(xen.directory / keeper.CONSOLE))
        self._thread = threading.Thread(target=self._run)
        keeper._create(xen.kept, paused=True)
        self._thread.start()

    def _run(self) -> None:
        self.code = keeper._keep(self._xen.kept, self._console)

    def end(self) -> int | None:
        self._thread.join(20)
        return self.code


def read_until(reading: int, text: bytes) -> bytes:
    said = b""
    deadline = time.monotonic() + 20
    while text not in said and time.monotonic() < deadline:
        said += os.read(reading, 4096)
    return said


def attach(xen: StandIn) -> socket.socket:
    viewer = socket.socket(socket.AF_UNIX)
    viewer.settimeout(20)
    viewer.connect(str(xen.directory / keeper.CONSOLE))
    return viewer


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize(
    ("flags", "reason", "code"), [("---s--", "0", 0), ("---sc-", "3", CRASHED)]
)
def test_a_domain_s_words_are_kept_and_how_it_ended_is_the_code(
    xen: StandIn, pipe: tuple[int, int], flags: str, reason: str, code: int
) -> None:
    keeping = Keeping(xen, pipe[1])
    os.write(xen.master, b"hello from the domain\n")
    assert b"hello from the domain" in read_until(pipe[0], b"domain")
    xen.ends(flags, reason)
    assert keeping.end() == code
    assert xen.asked()[-1] == "destroy 3"


def test_a_domain_that_somebody_destroyed_is_gone(xen: StandIn, pipe: tuple[int, int]) -> None:
    keeping = Keeping(xen, pipe[1])
    os.write(xen.master, b"up\n")
    read_until(pipe[0], b"up")
    xen.state.unlink()
    xen.tell()
    assert keeping.end() == GONE


def test_a_domain_that_restarts_is_made_anew_and_another_s_end_is_none_of_its(
    xen: StandIn, pipe: tuple[int, int]
) -> None:
    keeping = Keeping(xen, pipe[1])
    os.write(xen.master, b"first\n")
    read_until(pipe[0], b"first")
    xen.tell()
    xen.ends("---s--", "1")
    os.write(xen.master, b"second\n")
    read_until(pipe[0], b"second")
    xen.await_creates(2)
    xen.ends("---s--", "0")
    assert keeping.end() == 0
    assert [line for line in xen.asked() if line.startswith(("create", "destroy"))] == [
        f"create -p -e -q {xen.kept.config}",
        "destroy 3",
        f"create -e -q {xen.kept.config}",
        "destroy 3",
    ]


def test_who_is_attached_types_at_the_domain_and_the_log_keeps_all(
    xen: StandIn, pipe: tuple[int, int]
) -> None:
    keeping = Keeping(xen, pipe[1])
    os.write(xen.master, b"before\n")
    read_until(pipe[0], b"before")
    with attach(xen) as viewer:
        viewer.sendall(b"typed")
        assert read_until(xen.master, b"typed") == b"typed"
        os.write(xen.master, b"answer")
        assert viewer.recv(100) == b"answer"
        assert read_until(pipe[0], b"answer")
    with attach(xen) as another:
        another.sendall(b"me too")
        assert read_until(xen.master, b"too") == b"me too"
    xen.ends("---s--", "0")
    assert keeping.end() == 0


def test_a_viewer_that_does_not_read_holds_no_domain_up(
    xen: StandIn, pipe: tuple[int, int]
) -> None:
    keeping = Keeping(xen, pipe[1])
    with attach(xen) as viewer:
        viewer.sendall(b"here")
        read_until(xen.master, b"here")
        for _ in range(500):  # more than a socket holds
            os.write(xen.master, b"x" * 1023 + b"\n")
            said = 0
            while said < 1024:
                said += len(os.read(pipe[0], 4096))
    os.write(xen.master, b"end")
    assert read_until(pipe[0], b"end")
    xen.ends("---s--", "0")
    assert keeping.end() == 0


def test_a_domain_that_hears_nothing_is_still_kept(xen: StandIn, pipe: tuple[int, int]) -> None:
    """More is typed than its terminal takes."""
    keeping = Keeping(xen, pipe[1])
    with attach(xen) as viewer:
        viewer.sendall(b"here")
        read_until(xen.master, b"here")
        viewer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                viewer.send(b"y" * 4096)
        xen.ends("---s--", "0")
        assert keeping.end() == 0


def test_who_is_attached_stays_so_when_the_domain_restarts(
    xen: StandIn, pipe: tuple[int, int]
) -> None:
    keeping = Keeping(xen, pipe[1])
    with attach(xen) as viewer:
        viewer.sendall(b"here")
        read_until(xen.master, b"here")
        xen.ends("---s--", "1")
        xen.await_creates(2)
        os.write(xen.master, b"again")
        assert viewer.recv(100) == b"again"
    xen.ends("---s--", "0")
    assert keeping.end() == 0
