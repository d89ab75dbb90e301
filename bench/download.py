"""What a download costs the node's processor when it comes packet by packet, as it does where the
network card joins none: processor seconds of a client in a process of its own.

Through `Web`, as the downloader does; beside it the bare `recv` of the same bytes from the same
server, in turns. The server sends no faster than PACE, so that no client is what it waits for.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

import uvloop

from edgevirt.host.fetch.source import Timeouts
from edgevirt.host.fetch.web import Web

SIZE: Final = 64_000_000
PACKET: Final = 1460
PACE: Final = 20e6
"""Bytes a second."""
ROUNDS: Final = 3
AIM: Final = 1.5


def run() -> list[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        costs = [(_cost(_download, port), _cost(_receive, port)) for _ in range(ROUNDS)]
    ours, floor = (statistics.median(column) for column in zip(*costs, strict=True))
    return [
        {
            "name": "download of 64 MB in packets, processor",
            "value": ours,
            "unit": "s",
            "beside": "bare recv",
            "beside_value": floor,
            "ratio": ours / floor,
            "aim": f"≤ {AIM} ×",
        }
    ]


def _serve(listener: socket.socket) -> None:
    """One client after the other."""
    for _ in range(2 * ROUNDS):
        line, _ = listener.accept()
        with line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.recv(65_536)
            line.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
            began = time.monotonic()
            for sent in range(0, SIZE, PACKET):
                line.sendall(bytes(min(PACKET, SIZE - sent)))
                while sent > PACE * (time.monotonic() - began):
                    time.sleep(0)  # gives the processor away; a real sleep would make bursts


def _cost(client: Callable[[int], int], port: int) -> float:
    """Seconds of a processor, in a process that is there before it counts."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(client, port, theirs))
    process.start()
    received, seconds = ours.recv()
    process.join()
    if received != SIZE:
        raise RuntimeError(f"cannot measure a download: {received} bytes came of {SIZE}")
    return float(seconds)


def _run(client: Callable[[int], int], port: int, told: Connection) -> None:
    began = time.process_time()
    received = client(port)
    told.send((received, time.process_time() - began))


def _download(port: int) -> int:
    async def download() -> int:
        url = f"http://127.0.0.1:{port}/"
        web = Web(url, (), Timeouts())
        async with web.ask(url, {}) as answer:
            transfer = await web.transfer(answer, url, 0, "server")
            received = sum([len(chunk) async for chunk in transfer.chunks])
        await web.close()
        return received

    return uvloop.run(download())


def _receive(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = len(line.recv(65_536).partition(b"\r\n\r\n")[2])
        while got := len(line.recv(65_536)):
            received += got
    return received
