"""What the node's inter-process communication costs, beside a bare Unix socket.

Two processes on uvloop, values of 200 bytes. The latency is from just before `put` in the one to
the handler in the other, stamped with the clock that both share, one value under way at a time.
The rate is of values put as fast as they go, until the last one has arrived; of one key's values
that follow each other faster than they are sent, the last is sent. Beside them, in turns in the
same run: as many bytes through a bare Unix stream socket between two processes with blocking
calls. Each figure is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from edgevirt.runtime import InStep, Kind, Put
from edgevirt.runtime.socket import SocketStore

ROUNDS = 7
ROUND_VALUES = 400
BURST = 20_000
BURST_KEYS = 1_000
OTHERS = 10_000
AIM_MS = 0.15
SILENT = 0


class Sample(msgspec.Struct, frozen=True):
    sent: int
    """time.monotonic_ns of the sender."""
    filler: bytes


EMPTY = Kind("Empty", Sample)
FULL = Kind("Full", Sample)
KINDS = {"empty": EMPTY, "full": FULL}
FILLER = bytes(180)


# -- the publishing process: obeys lines on its standard input --


async def publish() -> None:
    directory = Path(sys.argv[2])
    async with SocketStore(directory, "a", KINDS.values(), (), uid_names={os.getuid(): "a"}) as own:
        for number in range(OTHERS):
            await own.put(FULL, f"other-{number}", Sample(0, FILLER))
        lines = await _standard_input()
        print("ready", flush=True)
        while words := (await lines.readline()).split():
            if words[0] == b"one":
                kind = KINDS[words[1].decode()]
                await own.put(kind, "key", Sample(time.monotonic_ns(), FILLER))
            else:
                await _burst(own, int(words[1]))


async def _burst(own: SocketStore, start: int) -> None:
    for number in range(start, start + BURST):
        await own.put(EMPTY, f"key-{number % BURST_KEYS}", Sample(number, FILLER))
        if number % 50 == 0:
            await asyncio.sleep(0)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def echo() -> None:
    """The bare peer: answers each message with its latency, except those stamped SILENT."""
    with socket.socket(fileno=int(sys.argv[2])) as peer:
        while data := _exactly(peer, 200):
            (sent,) = struct.unpack_from("<q", data)
            if sent != SILENT:
                peer.sendall(struct.pack("<q", time.monotonic_ns() - sent))


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


# -- the measuring process --


class Publisher:
    def __init__(self, directory: Path) -> None:
        self._process = _start("publish", str(directory), stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, **options)


async def _latencies(store: SocketStore, publisher: Publisher, bare: Bare) -> dict[str, float]:
    """Milliseconds: the p50 and p99 of one round, the kinds and the bare socket taking turns."""
    watches = {name: store.watch(kind) for name, kind in KINDS.items()}
    for watch in watches.values():
        async for event in watch:
            if isinstance(event, InStep):
                break
    found: dict[str, list[float]] = {name: [] for name in (*KINDS, "bare")}
    for _ in range(ROUND_VALUES):
        for name, watch in watches.items():
            publisher.say(f"one {name}")
            event = await anext(watch)
            now = time.monotonic_ns()
            assert isinstance(event, Put)
            found[name].append((now - event.resource.value.sent) / 1e6)
        found["bare"].append(bare.latency())
    return {
        f"{name} p{percent}": statistics.quantiles(values, n=100)[percent - 1]
        for name, values in found.items()
        for percent in (50, 99)
    }


async def _rate(store: SocketStore, publisher: Publisher, start: int) -> float:
    """Publishes a second, until the last one has arrived."""
    watch = store.watch(EMPTY)
    began = time.monotonic()
    publisher.say(f"burst {start}")
    async for event in watch:
        if isinstance(event, Put) and event.resource.value.sent == start + BURST - 1:
            break
    return BURST / (time.monotonic() - began)


class Bare:
    """The same with nothing but a socket."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer

    def latency(self) -> float:
        self._send(time.monotonic_ns())
        latency: int = struct.unpack("<q", _exactly(self._peer, 8))[0]
        return latency / 1e6

    def rate(self) -> float:
        began = time.monotonic()
        for _ in range(BURST - 1):
            self._send(SILENT)
        self._send(time.monotonic_ns())
        _exactly(self._peer, 8)
        return BURST / (time.monotonic() - began)

    def _send(self, stamp: int) -> None:
        self._peer.sendall(struct.pack("<q", stamp) + bytes(192))


@contextlib.contextmanager
def _bare() -> Iterator[Bare]:
    ours, theirs = socket.socketpair()
    process = _start("echo", str(theirs.fileno()), pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        yield Bare(ours)
    finally:
        ours.close()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def _measure(directory: Path) -> dict[str, float]:
    """The median of the rounds, by figure."""
    publisher = Publisher(directory)
    rounds: list[dict[str, float]] = []
    try:
        async with SocketStore(directory, "b", (), KINDS.values(), uid_names={}) as store:
            with _bare() as bare:
                await _latencies(store, publisher, bare)
                for number in range(ROUNDS):
                    figures = await _latencies(store, publisher, bare)
                    figures["rate"] = await _rate(store, publisher, (number + 1) * BURST)
                    figures["bare rate"] = bare.rate()
                    rounds.append(figures)
    finally:
        publisher.close()
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def _row(
    name: str, value: float, unit: str, beside: str, theirs: float, aim: str
) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "beside": beside, "beside_value": theirs,
        "ratio": value / theirs, "aim": aim,
    }  # fmt: skip


def run() -> list[dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(_measure(Path(directory)))
    bare, empty = "bare Unix socket", "ipc, empty table, p50"
    aim = f"≤ {AIM_MS} ms"
    return [
        _row(empty, found["empty p50"], "ms", bare, found["bare p50"], aim),
        _row("ipc, empty table, p99", found["empty p99"], "ms", bare, found["bare p99"], ""),
        _row("ipc, 10,000 other keys, p50", found["full p50"], "ms", bare, found["bare p50"], aim),
        _row("ipc, 10,000 other keys, p99", found["full p99"], "ms", bare, found["bare p99"], ""),
        _row("ipc, 10,000 keys against none, p50", found["full p50"], "ms",
             empty, found["empty p50"], "ratio ≤ 1.2"),
        _row("ipc, publishes", found["rate"], "/s", bare, found["bare rate"], ""),
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo()
    else:
        uvloop.run(publish())
