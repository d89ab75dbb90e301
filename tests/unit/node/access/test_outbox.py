"""What a guest prints is bounded, in order, and says what is missing."""

from __future__ import annotations

import asyncio

from edgevirt.node.access.outbox import Outbox


async def test_what_is_put_is_taken_in_order_and_in_pieces() -> None:
    outbox = Outbox(lossy=True)
    outbox.put(b"abc")
    outbox.put(b"defg")
    assert await outbox.take(5) == b"abcde"
    assert await outbox.take(5) == b"fg"


async def test_the_oldest_goes_and_that_is_said() -> None:
    outbox = Outbox(lossy=True, limit=6)
    for chunk in (b"aaaa", b"bbbb", b"cccc"):
        outbox.put(chunk)
    assert b"8 bytes are left out here" in await outbox.take(100)
    assert await outbox.take(100) == b"cccc"


async def test_one_chunk_larger_than_all_is_kept_whole() -> None:
    outbox = Outbox(lossy=True, limit=2)
    outbox.put(b"abc")
    assert await outbox.take(100) == b"abc"


async def test_where_nothing_may_be_lost_who_puts_waits() -> None:
    outbox = Outbox(lossy=False, limit=4)
    outbox.put(b"abcd")
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await outbox.take(2) == b"ab"
    await asyncio.wait_for(waiting, 5)
    assert await outbox.take(9) == b"cd"


async def test_the_end_comes_after_the_rest() -> None:
    outbox = Outbox(lossy=True)
    outbox.put(b"last")
    outbox.end()
    assert await outbox.take(9) == b"last"
    assert await outbox.take(9) == b""


async def test_who_takes_waits_for_something() -> None:
    outbox = Outbox(lossy=True)
    taking = asyncio.create_task(outbox.take(9))
    await asyncio.sleep(0)
    outbox.put(b"x")
    assert await taking == b"x"
