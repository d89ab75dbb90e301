"""A whole node whose controller is not the one that it was told of says so on its screen.

The server is real, and so is its certificate; only its root is another one than the node's.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.parts.authority import Authority, make_authority
from tests.parts.host_node import ENVIRONMENT, PATIENCE, Node, eventually, leftovers, make_config
from tests.parts.loopback import free_port

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]


class Answers(BaseHTTPRequestHandler):
    """What no node expects but a ping's."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/ping") else 404)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *words: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def server(authority: Authority, address: str = "127.0.0.1") -> Iterator[int]:
    """Its port at the address."""
    with ThreadingHTTPServer((address, free_port()), Answers) as listening:
        listening.socket = authority.context().wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield listening.server_port
        finally:
            listening.shutdown()
            thread.join()


@contextlib.contextmanager
def node_of(directory: Path, served_by: Authority, root: Path | None) -> Iterator[Node]:
    """A node that is told of `controller.test`; `root` None: of a root that is nobody's."""
    with server(served_by) as port:
        make_config(directory / "config")
        (directory / "config/server").write_text(f"controller.test:{port}\n")
        if root is not None:
            (directory / "config/root-certificate.pem").write_bytes(root.read_bytes())
        state = directory / "state"
        command = [
            *(sys.executable, "-m", "edgevirt", "node", "run", "--state", str(state)),
            *("--config", str(directory / "config"), "--serial", "S-1", "--name", "edge-1"),
            *("--host", "controller.test", "--forward", f"{port}:{port}"),
        ]
        process = subprocess.Popen(command, env=ENVIRONMENT)
        try:
            yield Node(process, state)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            assert leftovers(state) == []


def shown(node: Node) -> str:
    with contextlib.suppress(OSError):
        return node.file("run/console/diagnosis").read_text()
    return ""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("names", "trusted", "led", "words"),
    [
        (("controller.test",), False, 12, "does not lead to this node's root certificate"),
        (("other.test",), True, 12, "has a certificate for another name"),
        (("controller.test",), True, 18, "the controller does not know this node"),
    ],
    ids=["wrong root", "wrong server", "unknown node"],
)
def test_what_is_wrong_stands_on_the_screen(
    tmp_path: Path, names: tuple[str, ...], trusted: bool, led: int, words: str
) -> None:
    authority = make_authority(tmp_path, names=names)
    with node_of(tmp_path, authority, authority.ca if trusted else None) as node:
        blinks = f"(light blinks {led}×)"
        eventually(lambda: blinks in shown(node), f"it blinks {led} times")
        text = shown(node)
        assert words in text
        assert "ports        eth0; up; DHCP; 10.77." in text
        if led == 12:
            assert "certificate verify failed" in text
