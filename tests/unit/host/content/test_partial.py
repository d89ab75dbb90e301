"""Files that arrive in pieces lose nothing that was written, and are whole only at the end."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path

import pytest

from edgevirt.host.content.partial import Partial, names_in

MIB = 1024 * 1024


async def test_pieces_add_up_and_get_their_name_at_the_end(tmp_path: Path) -> None:
    partial = Partial(tmp_path, "name")
    async with partial.append(0) as writer:
        await writer.write(b"a" * (MIB + 5))
        await writer.write(b"b" * 10)
        assert writer.size == MIB + 15
    assert (partial.size(), partial.whole_size()) == (MIB + 15, None)
    async with partial.append(MIB) as writer:
        await writer.write(b"c")
    await partial.finish("text/plain")
    assert (partial.size(), partial.whole_size()) == (0, MIB + 1)
    assert partial.whole.read_bytes() == b"a" * MIB + b"c"
    assert partial.media_type() == "text/plain"


async def test_what_came_before_a_failure_is_kept(tmp_path: Path) -> None:
    partial = Partial(tmp_path, "name")

    async def fail() -> None:
        async with partial.append(0) as writer:
            await writer.write(b"kept")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert partial.size() == 4


async def test_what_came_before_a_cancellation_is_kept(tmp_path: Path) -> None:
    partial = Partial(tmp_path, "name")
    begun = asyncio.Event()

    async def receive() -> None:
        async with partial.append(0) as writer:
            await writer.write(b"x" * (3 * MIB))
            await writer.write(b"kept")
            begun.set()
            await asyncio.sleep(3600)

    receiving = asyncio.create_task(receive())
    await begun.wait()
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    assert partial.size() == 3 * MIB + 4


async def test_a_write_that_the_system_refuses_is_an_error(tmp_path: Path) -> None:
    """A bound on a file's size stands for any refusal that isn't a full disk."""
    partial = Partial(tmp_path, "name")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            async with partial.append(0) as writer:
                await writer.write(b"x" * (3 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert partial.size() == 2 * MIB


def test_names_are_told_once_for_whole_and_part(tmp_path: Path) -> None:
    for name in ("a", "a.part", "b.part"):
        (tmp_path / name).touch()
    assert sorted(names_in(tmp_path)) == ["a", "b"]
    assert list(names_in(tmp_path / "nothing")) == []
