"""What a request of a node costs the fleet, in CPU of the server's process, beside its floors.

One core, TLS in process. The floor of a request with a signature is the bare verification of one;
that of a new connection the bare TLS handshake in memory. Both are measured in the same run, in
turns with what they stand beside. The aim of 1.6 leaves 60 % of a verification for TLS, HTTP, the
envelope, the lookup and, for reports, the disk.
"""

from __future__ import annotations

import random
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.fleet_world import (
    Node,
    Outcome,
    Server,
    Signer,
    drive,
    learn_hashes,
    make_keys,
    seed,
    serving,
    settle,
    wait_until_ready,
)
from edgevirt.fleet.transport.tls import make_tls_context

FEW, MANY = 100, 100_000
ACTIVE = 2_500
"""Nodes of the many that poll in turn: the caches hold less of each."""
STRANGE = 12_000
"""Nodes of the many that report in turn: more than have their keys parsed in memory."""
ROUNDS = 4
REQUESTS = 5_000
RECONNECTS = 300
CONNECTIONS = 32


class Bench:
    def __init__(self, scratch: Path) -> None:
        self.keys = make_keys()
        self.signer = Signer(self.keys)
        self.few = seed(scratch / "few" / "fleet", FEW, self.keys)
        self.many = seed(scratch / "many" / "fleet", MANY, self.keys)
        self.scratch = scratch
        self._at = time.time()

    def polls(self, nodes: Sequence[Node], known: Sequence[str]) -> list[bytes]:
        signed = [self.signer.config(*pair) for pair in zip(nodes, known, strict=True)]
        return [signed[number % len(signed)] for number in range(REQUESTS)]

    def reports(self, nodes: Sequence[Node], count: int) -> list[bytes]:
        """Each another one: a repeated report would not be stored."""
        made = []
        for number in range(count):
            self._at += 0.001
            made.append(self.signer.info(nodes[number % len(nodes)], self._at))
        return made


def verify_micros(keys: Sequence[ec.EllipticCurvePrivateKey]) -> float:
    """CPU of a bare verification with a key that is parsed already."""
    algorithm, message = ec.ECDSA(hashes.SHA256()), bytes(230)
    pairs = [(key.public_key(), key.sign(message, algorithm)) for key in keys]
    began = time.process_time()
    for key, signature in pairs * 4:
        key.verify(signature, message, algorithm)
    return (time.process_time() - began) / (4 * len(pairs)) * 1e6


def handshake_micros(pair_file: Path, root_file: Path) -> float:
    """CPU of the server's side of a bare TLS 1.3 handshake between two buffers in memory."""
    served = make_tls_context(pair_file)
    trusting = ssl.create_default_context(cafile=str(root_file))
    used, count = 0.0, 100
    for _ in range(count):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = served.wrap_bio(to_server, to_client, server_side=True)
        client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
        done = False
        while not done:
            done = _step(client.do_handshake)
            began = time.process_time()
            _step(server.do_handshake)
            used += time.process_time() - began
        began = time.process_time()
        _step(server.do_handshake)
        used += time.process_time() - began
    return used / count * 1e6


def _step(act: Callable[[], None]) -> bool:
    try:
        act()
    except ssl.SSLWantReadError:
        return False
    return True


class Figures:
    """Every figure's values, one of each round."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        return statistics.median(self._values[name])


def _load(server: Server, requests: Sequence[bytes], status: int, **how: Any) -> Outcome:
    """Waits for what earlier requests left to do, so that it is not counted here."""
    settle(server)
    outcome = drive(server, requests, **how)
    assert outcome.statuses == {status: len(requests)}, outcome.statuses
    return outcome


def _measure(bench: Bench, server: Server, nodes: Sequence[Node]) -> Figures:
    wait_until_ready(server, bench.signer, nodes[0])
    polls = bench.polls(nodes, learn_hashes(server, bench.signer, nodes))
    _load(server, polls, 304, connections=CONNECTIONS)
    found = Figures()
    for _ in range(ROUNDS):
        found.note("verify", verify_micros(bench.keys))
        outcome = _load(server, polls, 304, connections=CONNECTIONS)
        found.note("config", outcome.micros)
        found.note("config rate", outcome.requests / outcome.seconds)
        reports = bench.reports(nodes, REQUESTS)
        outcome = _load(server, reports, 201, connections=2 * CONNECTIONS)
        found.note("info", outcome.micros)
        found.note("info rate", outcome.requests / outcome.seconds)
    return found


def _measure_crowd(bench: Bench, server: Server, found: Figures, drawn: Sequence[Node]) -> None:
    """What it costs when many nodes come in turn, not the same few again and again."""
    active = drawn[:ACTIVE]
    polls = bench.polls(active, learn_hashes(server, bench.signer, active))
    _load(server, polls, 304, connections=CONNECTIONS)
    for _ in range(ROUNDS):
        outcome = _load(server, polls, 304, connections=CONNECTIONS)
        found.note("config in turn", outcome.micros)
        reports = bench.reports(drawn, len(drawn))
        outcome = _load(server, reports, 201, connections=2 * CONNECTIONS)
        found.note("info in turn", outcome.micros)


def _measure_connects(bench: Bench, server: Server, found: Figures) -> None:
    nodes = bench.few
    known = learn_hashes(server, bench.signer, nodes)
    polls = [bench.signer.config(n, k, close=True) for n, k in zip(nodes, known, strict=True)]
    polls *= RECONNECTS // len(polls)
    for _ in range(ROUNDS):
        pair = server.root_file.parent / "tls.pem"
        found.note("handshake", handshake_micros(pair, server.root_file))
        outcome = _load(server, polls, 304, connections=8, reconnect=True)
        found.note("connect", outcome.micros)


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        with serving(bench.scratch / "few" / "fleet") as server:
            few = _measure(bench, server, bench.few)
            _measure_connects(bench, server, few)
        drawn = random.Random(1).sample(bench.many, STRANGE)
        with serving(bench.scratch / "many" / "fleet") as server:
            many = _measure(bench, server, drawn[:FEW])
            _measure_crowd(bench, server, many, drawn)
    floor, beside = "bare TLS handshake + verify", f"{FEW} nodes"
    return [
        _row("poll, config unchanged", few["config"], "bare verify", few["verify"], "≤ 1.6"),
        _row("info, durable", few["info"], "bare verify", few["verify"], "≤ 1.6"),
        _row("poll on a new connection", few["connect"], floor, few["handshake"] + few["verify"]),
        _row(f"poll, {MANY:,} nodes known", many["config"], beside, few["config"], "≤ 1.1"),
        _row(f"… {ACTIVE:,} in turn", many["config in turn"], beside, few["config"]),
        _row(f"info, {MANY:,} nodes known", many["info"], beside, few["info"], "≤ 1.1"),
        _row(f"… {STRANGE:,} in turn", many["info in turn"], beside, few["info"]),
        _rate("polls on one core", few["config"], few["config rate"]),
        _rate("durable infos on one core", few["info"], few["info rate"]),
    ]


def _row(name: str, value: float, beside: str, theirs: float, aim: str = "") -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": "µs CPU", "beside": beside, "beside_value": theirs,
        "ratio": value / theirs, "aim": aim,
    }  # fmt: skip


def _rate(name: str, micros: float, wall: float) -> dict[str, Any]:
    """From CPU; beside it what the load got through in this run, with a client on the machine."""
    rate = 1e6 / micros
    return {
        "name": name, "value": rate, "unit": "/s", "beside": "seen in this run",
        "beside_value": wall, "ratio": rate / wall, "aim": "",
    }  # fmt: skip
