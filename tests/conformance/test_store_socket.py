"""What only the socket driver promises: readers in other processes, that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgevirt.runtime import (
    Denied,
    Expired,
    Gone,
    InStep,
    Kind,
    Put,
    RealClock,
    StoreError,
    VirtualClock,
)
from edgevirt.runtime.frames import MAX_VALUE, PUT, Frame, Splitter
from edgevirt.runtime.socket import SocketStore
from tests.conformance.store_drivers import (
    OTHER,
    PATIENCE,
    THING,
    US,
    Follower,
    Thing,
    socket_owner,
    socket_reader,
    take,
    take_snapshot,
)

US_ALONE = {os.getuid(): "owner"}
SECRET = Kind("Secret", Thing, readers=frozenset({"friend"}))


async def settled(clock: VirtualClock) -> None:
    """Lets the real sockets speak while virtual time stands still."""
    for _ in range(20):
        await RealClock().sleep(0.001)
        await clock.settle()


# -- an owner that comes, goes, and comes again --


async def test_a_reader_waits_for_an_owner_that_starts_later(tmp_path: Path) -> None:
    async with socket_reader(tmp_path) as reader:
        asked = asyncio.create_task(reader.get(THING, "a"))
        await asyncio.sleep(0)
        async with socket_owner(tmp_path) as owner:
            await owner.put(THING, "a", Thing(1))
            async with asyncio.timeout(PATIENCE):
                found = await asked
        assert found is None or found.value == Thing(1)


async def test_while_the_owner_is_away_a_reader_keeps_what_it_knew(tmp_path: Path) -> None:
    async with socket_reader(tmp_path) as reader:
        async with socket_owner(tmp_path) as owner:
            await owner.put(THING, "a", Thing(1))
            follower = Follower(reader.watch(THING))
            await follower.until(lambda f: f.in_step == 1 and f.values == {"a": Thing(1)})
        told = len(follower.events)
        await asyncio.sleep(0)
        late = reader.watch(THING)
        assert await take_snapshot(late) == {"a": Thing(1)}
        assert (await reader.get(THING, "a")) is not None
        assert len(follower.events) == told
        await follower.stop()


async def test_after_a_reconnect_what_differs_is_told_then_what_vanished_then_in_step(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    async with socket_reader(tmp_path, clock=clock) as reader:
        async with socket_owner(tmp_path) as owner:
            for key in ("same", "changed", "vanished"):
                await owner.put(THING, key, Thing(1))
            follower = Follower(reader.watch(THING))
            await follower.until(lambda f: f.in_step == 1 and len(f.values) == 3)
        told = len(follower.events)
        async with socket_owner(tmp_path) as owner:
            await owner.put(THING, "changed", Thing(2))
            await owner.delete(THING, "vanished")
            await owner.put(THING, "new", Thing(3))
            await settled(clock)
            assert len(follower.events) == told, "the reader was to be cut off until now"
            await clock.advance(1)
            await follower.until(lambda f: f.in_step == 2)
            *changes, mark = follower.events[told:]
            assert isinstance(mark, InStep)
            puts = {e.resource.key: e.resource.value for e in changes if isinstance(e, Put)}
            assert puts == {"changed": Thing(2), "new": Thing(3)}
            (gone,) = [event for event in changes if isinstance(event, Gone)]
            assert gone.resource.key == "vanished"
            assert gone.resource.value == Thing(1)
            await follower.stop()


async def test_an_owner_that_starts_again_looks_to_readers_as_if_nothing_was(
    tmp_path: Path,
) -> None:
    async with socket_reader(tmp_path) as reader:
        async with socket_owner(tmp_path) as owner:
            for number in range(100):
                await owner.put(THING, str(number), Thing(number))
            follower = Follower(reader.watch(THING))
            await follower.until(lambda f: f.in_step == 1 and len(f.values) == 100)
        told = len(follower.events)
        async with socket_owner(tmp_path):
            await follower.until(lambda f: f.in_step == 2)
        assert [type(event) for event in follower.events[told:]] == [InStep]
        await follower.stop()


async def test_a_kind_that_is_held_is_in_step_only_when_released(tmp_path: Path) -> None:
    async with socket_reader(tmp_path) as reader:
        follower = Follower(reader.watch(THING))
        async with socket_owner(tmp_path, held=[THING]) as owner:
            await owner.put(THING, "a", Thing(1))
            await follower.until(lambda f: f.values == {"a": Thing(1)})
            assert follower.in_step == 0
            own = Follower(owner.watch(THING))
            await owner.put(THING, "b", Thing(2))
            await own.until(lambda f: len(f.values) == 2)
            assert own.in_step == 0
            await owner.release(THING)
            await follower.until(lambda f: f.in_step == 1 and len(f.values) == 2)
            await own.until(lambda f: f.in_step == 1)
            await own.stop()
        async with socket_owner(tmp_path, held=[THING]):
            await follower.until(lambda f: f.in_step == 2)
        assert len(follower.values) == 2
        await follower.stop()


async def test_a_held_kind_is_held_again_in_the_nodes_next_run(tmp_path: Path) -> None:
    async with socket_owner(tmp_path, held=[THING]) as owner:
        await owner.release(THING)
    for left in (tmp_path / "run").iterdir():
        left.unlink()
    async with socket_owner(tmp_path, held=[THING]) as owner, socket_reader(tmp_path) as reader:
        follower = Follower(reader.watch(THING))
        await owner.put(THING, "a", Thing(1))
        await follower.until(lambda f: f.values == {"a": Thing(1)})
        assert follower.in_step == 0
        await follower.stop()


# -- one owner --


async def test_a_second_owner_fails_loudly_and_the_first_goes_on(tmp_path: Path) -> None:
    async with socket_owner(tmp_path) as owner, socket_reader(tmp_path) as reader:
        with pytest.raises(StoreError, match="cannot own Thing: another process does"):
            await socket_owner(tmp_path).open()
        await owner.put(THING, "a", Thing(1))
        follower = Follower(reader.watch(THING))
        await follower.until(lambda f: f.values == {"a": Thing(1)})
        await follower.stop()


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tests.conformance.store_drivers import THING, Thing, socket_owner

async def main():
    async with socket_owner(Path(sys.argv[1])) as owner:
        await owner.put(THING, "a", Thing(1))
        print("up", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextlib.contextmanager
def owner_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", OWNER, str(path), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


async def test_a_living_owner_in_another_process_is_not_displaced(tmp_path: Path) -> None:
    with owner_process(tmp_path):
        with pytest.raises(StoreError, match="cannot own"):
            await socket_owner(tmp_path).open()
        async with socket_reader(tmp_path) as reader, asyncio.timeout(PATIENCE):
            found = await reader.get(THING, "a")
            assert found is not None


async def test_the_socket_of_a_killed_owner_is_taken_over_with_its_values(tmp_path: Path) -> None:
    with owner_process(tmp_path) as process:
        async with socket_reader(tmp_path) as reader:
            follower = Follower(reader.watch(THING))
            await follower.until(lambda f: f.in_step == 1)
            process.kill()
            process.wait()
            assert (tmp_path / "run" / "Thing.sock").exists()
            async with socket_owner(tmp_path) as owner:
                assert set(await owner.list(THING)) == {"a"}
                await owner.put(THING, "b", Thing(2))
                await follower.until(lambda f: set(f.values) == {"a", "b"})
            assert not any(isinstance(event, Gone) for event in follower.events)
            await follower.stop()


# -- who may --


async def test_what_is_not_declared_is_denied(tmp_path: Path) -> None:
    async with socket_owner(tmp_path) as owner, socket_reader(tmp_path) as reader:
        with pytest.raises(Denied):
            await reader.put(THING, "a", Thing(1))
        with pytest.raises(Denied):
            await reader.delete(THING, "a")
        with pytest.raises(Denied):
            await owner.get(SECRET, "a")
        with pytest.raises(Denied):
            owner.watch(SECRET)
        with pytest.raises(Expired):
            reader.watch(THING, since=1)


@pytest.mark.parametrize("names", [{}, {os.getuid(): "stranger"}])
async def test_a_peer_that_the_kind_does_not_admit_learns_nothing(
    tmp_path: Path, names: dict[int, str]
) -> None:
    owner = SocketStore(tmp_path, "owner", [SECRET], (), uid_names=names)
    reader = SocketStore(tmp_path, "friend", (), [SECRET], uid_names=names)
    async with owner, reader:
        await owner.put(SECRET, "a", Thing(42))
        watch = reader.watch(SECRET)
        with pytest.raises(Denied, match="cannot read Secret"):
            await take(watch, 1)
        with pytest.raises(Denied):
            await reader.list(SECRET)
        with pytest.raises(Denied):
            await take(reader.watch(SECRET), 1)
        assert b"*" not in await everything(tmp_path / "Secret.sock")


async def test_an_admitted_peer_is_served_and_so_is_the_owners_own_name(tmp_path: Path) -> None:
    for name in ("friend", "owner"):
        owner = SocketStore(tmp_path, "owner", [SECRET], (), uid_names={os.getuid(): name})
        reader = SocketStore(tmp_path, name, (), [SECRET], uid_names={})
        async with owner, reader, asyncio.timeout(PATIENCE):
            await owner.put(SECRET, "a", Thing(42))
            assert (await reader.get(SECRET, "a")) is not None


async def test_an_impostor_of_an_owner_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {os.getuid() + 1: "owner", os.getuid(): "reader"}
    clock = VirtualClock()
    reader = SocketStore(
        tmp_path / "run", "reader", (), [THING],
        uid_names=names, owners={"Thing": "owner"}, clock=clock,
    )  # fmt: skip
    async with socket_owner(tmp_path) as impostor, reader:
        await impostor.put(THING, "a", Thing(1))
        follower = Follower(reader.watch(THING))
        await settled(clock)
        assert not follower.events
        assert "not its owner" in caplog.text
        await follower.stop()


async def test_one_service_cannot_use_up_all_connections(tmp_path: Path) -> None:
    async with socket_owner(tmp_path) as owner, socket_reader(tmp_path) as reader:
        follower = Follower(reader.watch(THING))
        await follower.until(lambda f: f.in_step == 1)
        hoard = [await asyncio.open_unix_connection(tmp_path / "run/Thing.sock") for _ in range(40)]
        ends = [asyncio.create_task(stream.read()) for stream, _ in hoard]
        async with asyncio.timeout(PATIENCE):
            while sum(end.done() for end in ends) < 25:
                await asyncio.sleep(0)
        await owner.put(THING, "a", Thing(1))
        await follower.until(lambda f: f.values == {"a": Thing(1)})
        await follower.stop()
        for _, writer in hoard:
            writer.close()
        await asyncio.gather(*ends)


async def everything(path: Path) -> bytes:
    """All that the owner says until it ends the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(PATIENCE):
        said = await reader.read()
    writer.close()
    return said


# -- peers that misbehave --


async def test_a_reader_that_speaks_is_cut_off(tmp_path: Path) -> None:
    async with socket_owner(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "run/Thing.sock")
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        struct.pack("<I", 0xFFFFFFFF) + b"x",
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 4) + msgspec.msgpack.encode((9, "", 0)),
    ],
)
async def test_an_owner_that_speaks_rubbish_is_left_and_tried_again(
    tmp_path: Path, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "Thing.sock"

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(rubbish)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with socket_reader(tmp_path) as reader:
        async with await asyncio.start_unix_server(speak, path) as server:
            follower = Follower(reader.watch(THING))
            async with asyncio.timeout(PATIENCE):
                while "does not speak our protocol" not in caplog.text:
                    await asyncio.sleep(0)
            server.close()
        async with socket_owner(tmp_path) as owner:
            await owner.put(THING, "a", Thing(1))
            await follower.until(lambda f: f.in_step == 1 and f.values == {"a": Thing(1)})
        await follower.stop()


async def test_a_value_that_is_not_of_the_kind_is_said_and_the_others_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Older(msgspec.Struct, frozen=True):
        text: str

    older = Kind("Thing", Older)
    owner = SocketStore(tmp_path / "run", "owner", [older], (), uid_names=US)
    async with owner, socket_reader(tmp_path) as reader:
        await owner.put(older, "bad", Older("x"))
        follower = Follower(reader.watch(THING))
        await follower.until(lambda f: f.in_step == 1)
        assert not follower.values
        assert "Thing 'bad': not a value of this kind" in caplog.text
        await follower.stop()


# -- sizes and speeds --


async def test_a_value_too_large_is_refused_and_the_store_goes_on(tmp_path: Path) -> None:
    async with socket_owner(tmp_path) as owner, socket_reader(tmp_path) as reader:
        with pytest.raises(StoreError, match="cannot put Thing 'big'"):
            await owner.put(THING, "big", Thing(1, data=bytes(MAX_VALUE)))
        with pytest.raises(StoreError, match="a key of"):
            await owner.put(THING, "k" * (1 << 17), Thing(1))
        await owner.put(THING, "large", Thing(2, data=bytes(24 << 20)))
        follower = Follower(reader.watch(THING))
        await follower.until(lambda f: "large" in f.values)
        assert len(follower.values["large"].data) == 24 << 20
        await follower.stop()


def connect(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.setblocking(False)
    peer.connect(str(path))
    return peer


async def test_a_reader_that_does_not_read_costs_bounded_memory_and_delays_nobody(
    tmp_path: Path,
) -> None:
    filler = bytes(1000)
    async with socket_owner(tmp_path) as owner, socket_reader(tmp_path) as reader:
        stuck = connect(tmp_path / "run" / "Thing.sock")
        follower = Follower(reader.watch(THING))
        await follower.until(lambda f: f.in_step == 1)
        for number in range(20_000):
            await owner.put(THING, str(number % 10), Thing(number, data=filler))
            await owner.put(THING, f"passing-{number}", Thing(number, data=filler))
            await owner.delete(THING, f"passing-{number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        await follower.until(lambda f: f.values.get("9") == Thing(19_999, data=filler))
        await owner.put(THING, "end", Thing(-1))
        values, size = await read_until(stuck, "end")
        assert size < 4 << 20, "40 MB were said, and all of it kept for the slow reader"
        assert values["9"] == Thing(19_999, data=filler)
        stuck.close()
        await follower.stop()


async def read_until(peer: socket.socket, key: str) -> tuple[dict[str, Thing], int]:
    """What the peer has to tell up to `key`, and its bytes."""
    splitter, values, size = Splitter(), dict[str, Thing](), 0
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        while key not in values:
            data = await loop.sock_recv(peer, 1 << 16)
            size += len(data)
            for frame in splitter.feed(data):
                note(values, frame)
    return values, size


def note(values: dict[str, Thing], frame: Frame) -> None:
    if frame.type == PUT:
        values[frame.key] = THING.decode(bytes(frame.value))
    else:
        values.pop(frame.key, None)


@pytest.mark.parametrize("deleted", [0, 5])
async def test_what_is_kept_for_a_restart_does_not_grow_without_end(
    tmp_path: Path, deleted: int
) -> None:
    async with socket_owner(tmp_path) as owner:
        for number in range(8_000):
            await owner.put(THING, str(number % 10), Thing(number, data=bytes(1000)))
            if deleted:
                await owner.delete(THING, str((number + deleted) % 10))
        present = dict(await owner.list(THING))
        assert (tmp_path / "run" / "Thing.values").stat().st_size < 3 << 20
    async with socket_owner(tmp_path) as owner:
        assert dict(await owner.list(THING)) == present


async def test_directories_with_long_names_work(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with socket_owner(deep) as owner, socket_reader(deep) as reader:
        await owner.put(OTHER, "a", Thing(1))
        follower = Follower(reader.watch(OTHER))
        await follower.until(lambda f: f.values == {"a": Thing(1)})
        await follower.stop()


async def test_a_reader_connects_once_for_each_kind_that_it_touches(tmp_path: Path) -> None:
    async with socket_owner(tmp_path), socket_reader(tmp_path) as reader:
        gc.collect()  # what earlier tests left is closed now, not between the two counts
        before = len(os.listdir("/proc/self/fd"))
        watches = [reader.watch(THING) for _ in range(5)]
        for watch in watches:
            await take(watch, 1)
        await reader.list(THING)
        both_ends = 2
        assert len(os.listdir("/proc/self/fd")) == before + both_ends
