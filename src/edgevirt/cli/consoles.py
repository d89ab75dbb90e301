"""Verbs that reach into a running app, past its network: its serial console, and its screen."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.operate import own_name
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Verb
from edgevirt.cli.wait import Duration

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from edgevirt.wire.access import Line

ESCAPE: Final = b"\x1d"
"""Ctrl-], as of telnet and virsh."""
_HELLO_SECONDS: Final = 30.0
_CHUNK: Final = 4096
_PORTS: Final = range(5900, 6000)

APP = click.argument("name", metavar="APPINSTANCE",
                     shell_complete=complete_named("appinstances"))  # fmt: skip
TAKE_OVER = click.option("--take-over", is_flag=True, help="End the session of who has it now.")
TIMEOUT = click.option("--timeout", type=Duration(), default="3m", show_default=True,
                       metavar="DURATION", help="How long to wait for it to open.")  # fmt: skip


@click.command(cls=Verb)
@APP
@TAKE_OVER
@TIMEOUT
@click.pass_obj
def console(session: Session, name: str, take_over: bool, timeout: float) -> None:
    """Type at the serial console of an app that has a machine; Ctrl-] ends it.

    Through the fleet: the node connects out, and opens no port. What is typed and printed is
    encrypted between here and the node; the app's log keeps what it prints.
    """
    link = _open(session, name, "serial", take_over, timeout)
    with link, _raw_terminal():
        where = f"at the console of {name} on {link.node}; Ctrl-] ends it"
        click.echo(f"edgevirt: {where}\r", err=True)  # a raw terminal returns by that alone
        threading.Thread(target=_type, args=(link,), daemon=True).start()
        why = link.receive(_print)
        click.echo("\r", err=True)
    _end(name, why)


@click.command(cls=Verb)
@APP
@click.option("--port", type=click.IntRange(0, 65535), default=None,
              help="Of this machine's loopback; else the first free one from 5900.")  # fmt: skip
@TAKE_OVER
@TIMEOUT
@click.pass_obj
def vnc(session: Session, name: str, port: int | None, take_over: bool, timeout: float) -> None:
    """Show the screen of an app that is a virtual machine to a VNC viewer of yours.

    Opens a port of this machine's loopback for one viewer, and ends with it.
    """
    with contextlib.ExitStack() as kept:
        listening = kept.enter_context(_listen(port))
        link = kept.enter_context(_open(session, name, "vnc", take_over, timeout))
        where = "{}:{}".format(*listening.getsockname())
        click.echo(f"edgevirt: the screen of {name} on {link.node} is at {where}", err=True)
        click.echo(f"  such as: vncviewer {where.replace(':', '::')}", err=True)
        viewer = _Viewer(listening, link)
        threading.Thread(target=viewer.read, daemon=True).start()
        why = link.receive(viewer.write)
    _end(name, why)


def _end(name: str, why: str) -> None:
    if why:
        fail(f"cannot stay at the console of {name}: {why}")


# -- the session --


class _Link:
    """A session that is open. One thread receives, one other says."""

    def __init__(self, connection: ClientConnection, line: Line, node: str) -> None:
        self._connection = connection
        self._line = line
        self.node = node
        self._left = False

    def __enter__(self) -> _Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def say(self, data: bytes) -> None:
        from websockets.exceptions import WebSocketException

        from edgevirt.wire.access import Data

        with contextlib.suppress(WebSocketException):  # whoever receives will see
            self._connection.send(self._line.say(Data(data)))

    def leave(self) -> None:
        from websockets.exceptions import WebSocketException

        from edgevirt.wire.access import End

        self._left = True
        with contextlib.suppress(WebSocketException):
            self._connection.send(self._line.say(End()))
        self._connection.close()

    def receive(self, take: Callable[[bytes], None]) -> str:
        """Until the end; why it is, if it was not asked for here."""
        from websockets.exceptions import WebSocketException

        from edgevirt.wire.access import AccessError, Data, End

        why = ""
        try:
            for message in self._connection:
                if isinstance(message, str):
                    why = why or str(json.loads(message).get("end", ""))
                    continue
                said = self._line.hear(message)
                if isinstance(said, Data):
                    take(said.data)
                elif isinstance(said, End):
                    why = said.why or "the node ended the session"
        except AccessError as error:
            why = str(error)
        except WebSocketException:
            why = why or "the connection to the fleet is gone"
        return "" if self._left else why or "the fleet ended the session"


def _open(session: Session, name: str, kind: str, take_over: bool, timeout: float) -> _Link:
    """Waits until the node has connected, and says what is going on meanwhile."""
    from edgevirt.client.errors import Refused
    from edgevirt.wire import access

    type_ = session.type_of("appinstances")
    name = own_name(session, type_, name)
    path = type_.object_path(session.scope(type_), name, "console")
    query = {"kind": kind, "takeOver": "true"} if take_over else {"kind": kind}
    try:
        connection = session.client.connect(path, max_size=access.MAX_FRAME, **query)
    except Refused as refused:
        if refused.reason == "Busy":
            fail(str(refused), "--take-over ends theirs")
        raise
    try:
        key, node = _await_node(connection, name, timeout)
        secret = os.urandom(access.SECRET_SIZE)
        line = access.Line(access.Role.OPERATOR, access.read_key(key), secret)
        connection.send(line.hello)
        hello = connection.recv(timeout=_HELLO_SECONDS)
        line.hear(hello if isinstance(hello, bytes) else hello.encode())
    except TimeoutError:
        connection.close()
        why = f"it did not open in {timeout:.0f} s"
        fail(f"cannot open the console of {name}: {why}", "--timeout waits longer")
    except access.AccessError as error:
        connection.close()
        fail(f"cannot open the console of {name}: {error}")
    return _Link(connection, line, node)


def _await_node(connection: ClientConnection, name: str, timeout: float) -> tuple[str, str]:
    """The session's key, and the node's name."""
    import time

    from websockets.exceptions import WebSocketException

    key, deadline = "", time.monotonic() + timeout
    while True:
        try:
            message = connection.recv(timeout=max(0.0, deadline - time.monotonic()))
        except WebSocketException:
            fail(f"cannot open the console of {name}: the connection to the fleet is gone")
        told = json.loads(message)
        key = told.get("key", key)
        if "say" in told:
            click.echo(f"edgevirt: {told['say']}", err=True)
        if "end" in told:
            fail(f"cannot open the console of {name}: {told['end']}")
        if "open" in told:
            return key, told["open"]


# -- a terminal --


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, those for signals too. What is no terminal stays as it is."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setraw(number)
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _type(link: _Link) -> None:
    """From standard input; its end is none of the session's, where it is no terminal."""
    while data := os.read(sys.stdin.fileno(), _CHUNK):
        before, escape, _ = data.partition(ESCAPE)
        if before:
            link.say(before)
        if escape:
            link.leave()
            return


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


# -- a viewer --


def _listen(port: int | None) -> socket.socket:
    for tried in _PORTS if port is None else (port,):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", tried), backlog=1)
    fail(
        "cannot open a port for the viewer: "
        + ("5900 to 5999 are taken" if port is None else f"{port} is taken"),
        "--port names another one; 0 any that is free",
    )


class _Viewer:
    """One connection. What comes before it is there is kept: no more than a greeting."""

    def __init__(self, listening: socket.socket, link: _Link) -> None:
        self._listening = listening
        self._link = link
        self._early = b""
        self._there: socket.socket | None = None
        self._lock = threading.Lock()

    def read(self) -> None:
        with contextlib.suppress(OSError):
            viewer, _ = self._listening.accept()
            with self._lock:
                viewer.sendall(self._early)
                self._there = viewer
            while data := viewer.recv(_CHUNK):
                self._link.say(data)
        self._link.leave()

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._there is None:
                self._early += data
                return
        with contextlib.suppress(OSError):  # the one who reads from it will see
            self._there.sendall(data)
