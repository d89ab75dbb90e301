"""What the node's inter-process communication costs, beside a bare Unix socket.

Two processes on uvloop, values of 200 bytes. The latency is from just before `put` in the one to
the handler in the other, stamped with the clock that both share, one value under way at a time.
Beside it, in turns in the same run: the same bytes through a bare Unix stream socket between two
processes with blocking calls, stamped alike. Each figure is the median of its rounds.
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
from collections.abc import Callable, Iterator
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
    """The bare peer: stamps each message's arrival and sends the latency back."""
    with socket.socket(fileno=int(sys.argv[2])) as peer:
        while data := _exactly(peer, 200):
            peer.sendall(struct.pack("<q", time.monotonic_ns() - struct.unpack_from("<q", data)[0]))


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


async def _latencies(store: SocketStore, publisher: Publisher, name: str) -> list[float]:
    """Milliseconds, one value after the other."""
    watch = store.watch(KINDS[name])
    async for event in watch:
        if isinstance(event, InStep):
            break
    found: list[float] = []
    for _ in range(ROUND_VALUES):
        publisher.say(f"one {name}")
        event = await anext(watch)
        now = time.monotonic_ns()
        assert isinstance(event, Put)
        found.append((now - event.resource.value.sent) / 1e6)
    return found


async def _rate(store: SocketStore, publisher: Publisher, start: int) -> float:
    """Publishes a second, until the last one has arrived."""
    watch = store.watch(EMPTY)
    began = time.monotonic()
    publisher.say(f"burst {start}")
    async for event in watch:
        if isinstance(event, Put) and event.resource.value.sent == start + BURST - 1:
            break
    return BURST / (time.monotonic() - began)


@contextlib.contextmanager
def _bare_peer() -> Iterator[Callable[[], list[float]]]:
    ours, theirs = socket.socketpair()
    process = _start("echo", str(theirs.fileno()), pass_fds=[theirs.fileno()])
    theirs.close()

    def measure() -> list[float]:
        found = []
        for _ in range(ROUND_VALUES):
            ours.sendall(struct.pack("<q", time.monotonic_ns()) + bytes(192))
            found.append(struct.unpack("<q", _exactly(ours, 8))[0] / 1e6)
        return found

    try:
        measure()
        yield measure
    finally:
        ours.close()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def _measure(directory: Path) -> dict[str, list[list[float]]]:
    publisher = Publisher(directory)
    rounds: dict[str, list[list[float]]] = {"empty": [], "full": [], "bare": [], "rate": []}
    reads = KINDS.values()
    try:
        async with SocketStore(directory, "b", (), reads, uid_names={}) as store:
            with _bare_peer() as bare:
                await _latencies(store, publisher, "empty")
                for number in range(ROUNDS):
                    for name in KINDS:
                        rounds[name].append(await _latencies(store, publisher, name))
                    rounds["bare"].append(bare())
                    rounds["rate"].append([await _rate(store, publisher, (number + 1) * BURST)])
    finally:
        publisher.close()
    return rounds


def _p50(rounds: list[list[float]]) -> float:
    return statistics.median(statistics.median(values) for values in rounds)


def _p99(rounds: list[list[float]]) -> float:
    return statistics.median(sorted(values)[int(len(values) * 0.99)] for values in rounds)


def _row(name: str, value: float, unit: str, beside: str, theirs: float, aim: str) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "beside": beside, "beside_value": theirs,
        "ratio": value / theirs, "aim": aim,
    }  # fmt: skip


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(
        loop_factory=uvloop.new_event_loop
    ) as runner:
        rounds = runner.run(_measure(Path(directory)))
    bare50, bare99 = _p50(rounds["bare"]), _p99(rounds["bare"])
    rate = _p50(rounds["rate"])
    bare, empty = "bare Unix socket", "ipc, empty table, p50"
    aim = f"≤ {AIM_MS} ms"
    return [
        _row(empty, _p50(rounds["empty"]), "ms", bare, bare50, aim),
        _row("ipc, empty table, p99", _p99(rounds["empty"]), "ms", bare, bare99, ""),
        _row("ipc, 10,000 other keys, p50", _p50(rounds["full"]), "ms", bare, bare50, aim),
        _row("ipc, 10,000 other keys, p99", _p99(rounds["full"]), "ms", bare, bare99, ""),
        _row("ipc, 10,000 keys against none, p50", _p50(rounds["full"]), "ms",
             empty, _p50(rounds["empty"]), "ratio ≤ 1.2"),
        _row("ipc, publishes", rate, "/s", "one at a time", 1000 / _p50(rounds["empty"]), ""),
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo()
    else:
        uvloop.run(publish())
