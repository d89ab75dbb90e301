"""A little world of network namespaces for tests: the node, and what is outside of it.

While a lab is open, the thread that opened it, and what that starts, is in the node's namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edgevirt.host.netlink import IPRoute
from edgevirt.host.rights import namespace

T = TypeVar("T")

NODE_ADDRESS = "192.0.2.2"
OUTSIDE_ADDRESS = "192.0.2.1"
PATIENCE = 60.0
"""Seconds until what should answer is said not to."""
SILENCE = 0.4
"""Seconds after which what must not answer is taken not to."""


class Echo:
    """A server on all of TCP and UDP `port` in the present namespace: gives back what it gets."""

    def __init__(self, port: int, address: str = "0.0.0.0") -> None:
        self._stream = socket.create_server((address, port), backlog=16)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind((address, port))
        self._open: list[socket.socket] = []
        self.peers: list[str] = []
        self._threads = [threading.Thread(target=run) for run in (self._accept, self._answer)]
        for thread in self._threads:
            thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._stream.accept()
                self._open.append(connection)
                self.peers.append(peer[0])
                thread = threading.Thread(target=self._echo, args=(connection,))
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(1000):
                connection.sendall(data)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._datagrams.recvfrom(1000)
                if peer is None:  # shut down
                    return
                self.peers.append(peer[0])
                self._datagrams.sendto(data, peer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._datagrams.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in (self._stream, self._datagrams, *self._open):
            connection.close()


@dataclass
class Lab:
    """`directory` is the test's own; `outside` is where the node's `eth0` leads."""

    directory: Path
    outside: int
    undo: contextlib.ExitStack = field(repr=False)

    @property
    def namespaces(self) -> Path:
        return self.directory / "run" / "netns"

    @property
    def name_servers(self) -> Path:
        return self.directory / "run" / "networks"

    @contextlib.contextmanager
    def guest(self, name: str) -> Iterator[None]:
        fd = os.open(self.namespaces / name, os.O_RDONLY)
        try:
            with namespace.inside(fd):
                yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def beyond(self) -> Iterator[None]:
        with namespace.inside(self.outside):
            yield

    def sweep(self) -> None:
        """Removes what a killed networks service left: its name servers and guests' namespaces."""
        for conf in self.name_servers.glob("*/state/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(conf.read_text()), signal.SIGKILL)
        for guest in self.namespaces.glob("*"):
            namespace.drop_network_namespace(guest)

    def echo(self, port: int, address: str = "0.0.0.0") -> Echo:
        """In the present namespace, until the test ends."""
        server = Echo(port, address)
        self.undo.callback(server.close)
        return server


def netlink(call: Callable[[IPRoute], T]) -> T:
    """`call` with netlink of the present namespace; also where an event loop runs."""

    def run() -> T:
        with IPRoute() as route:
            return call(route)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def interfaces() -> dict[str, int]:
    """Index by name, in the present namespace."""
    return netlink(
        lambda route: {k.get_attr("IFLA_IFNAME"): int(k["index"]) for k in route.get_links()}
    )


def addresses(interface: str) -> set[str]:
    index = interfaces()[interface]
    return netlink(
        lambda route: {
            k.get_attr("IFA_ADDRESS") for k in route.get_addr(family=socket.AF_INET, index=index)
        }
    )


def talks(address: str, port: int, timeout: float = PATIENCE, source: str = "") -> bool:
    """Whether an Echo at the other end answers over TCP."""
    try:
        with socket.create_connection((address, port), timeout, (source, 0)) as connection:
            connection.sendall(b"hello")
            return connection.recv(100) == b"hello"
    except OSError:
        return False


def refused(address: str, port: int, source: str = "") -> bool:
    """Whether nothing comes back."""
    return not talks(address, port, SILENCE, source)


def talks_udp(address: str, port: int, timeout: float = PATIENCE) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(timeout)
        try:
            sender.sendto(b"hello", (address, port))
            return sender.recv(100) == b"hello"
        except OSError:
            return False


def resolve(server: str, name: str, timeout: float = PATIENCE) -> list[str]:
    """IPv4 addresses that a DNS server gives; empty: it says that there are none (RFC 1035)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(timeout)
        sender.sendto(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + question, (server, 53))
        answer = sender.recv(1500)
    count = struct.unpack("!H", answer[6:8])[0]
    records = answer[12 + len(question) :]
    found = []
    for _ in range(count):
        kind, _, _, size = struct.unpack("!HHIH", records[2:12])
        if kind == 1:
            found.append(socket.inet_ntoa(records[12 : 12 + size]))
        records = records[12 + size :]
    return found


def resolves(server: str, name: str, *addresses: str) -> bool:
    """Whether it does, at once or as soon as the server has read what it was told last."""
    deadline = time.monotonic() + PATIENCE
    while resolve(server, name) != list(addresses):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def dhcp_lease(directory: Path, interface: str = "eth0", tries: int = 20) -> dict[str, str]:
    """What a real client is offered in the present namespace; empty: nothing, in a second a try."""
    script = directory / "udhcpc.sh"
    script.write_text("#!/bin/sh\n[ $1 = bound ] && env\nexit 0\n")
    script.chmod(0o755)
    options = ["-O", "mtu", "-O", "ntpsrv", "-O", "staticroutes", "-O", "121"]
    command = ["busybox", "udhcpc", "-i", interface, "-nqf", "-t", str(tries), "-T", "1", *options]
    done = subprocess.run(
        [*command, "-s", str(script)], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _wire(node: int, outside: int) -> None:
    with namespace.inside(node), IPRoute() as netlink:
        netlink.link("set", index=1, state="up")
        peer = {"ifname": "eth0", "net_ns_fd": outside}
        netlink.link("add", ifname="eth0", kind="veth", peer=peer)
    for fd, own, other in (
        (node, NODE_ADDRESS, OUTSIDE_ADDRESS),
        (outside, OUTSIDE_ADDRESS, NODE_ADDRESS),
    ):
        with namespace.inside(fd), IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
            (index,) = netlink.link_lookup(ifname="eth0")
            netlink.addr("add", index=index, address=own, prefixlen=24)
            netlink.link("set", index=index, state="up")
            if fd == node:
                netlink.route("add", dst="default", gateway=other)


@contextlib.contextmanager
def open_lab() -> Iterator[Lab]:
    """Undone at the end, whatever happened.

    Its directory is no `tmp_path`: dnsmasq, which is another user, must get through to its files.
    """
    with contextlib.ExitStack() as undo:
        directory = Path(tempfile.mkdtemp(prefix="edgevirt-lab-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        fds = []
        for name in ("node", "outside"):
            path = directory / f"lab-{name}"
            namespace.keep_network_namespace(path)
            undo.callback(namespace.drop_network_namespace, path)
            fds.append(os.open(path, os.O_RDONLY))
            undo.callback(os.close, fds[-1])
        node, outside = fds
        _wire(node, outside)
        undo.enter_context(namespace.inside(node))
        yield Lab(directory, outside, undo)
