"""A process that writes without end and says on its standard output what is durable.

`store_writer.py DRIVER DIRECTORY FIRST [PATH...]`: for n from FIRST, key n % 7 gets the value n
(every 11th time it is deleted instead); when that has returned, `n` is printed. Its life ends with
a kill, at any moment.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

KEYS = 7
DELETED = 11


async def write(driver: str, directory: Path, number: int) -> None:
    from tests.conformance.store_drivers import DRIVERS, Thing

    async with AsyncExitStack() as stack:
        arena = await DRIVERS[driver](directory, stack)
        while True:
            key = str(number % KEYS)
            if number % DELETED == 0:
                await arena.owner.delete(arena.kind, key)
            else:
                await arena.owner.put(arena.kind, key, Thing(number, data=bytes(number % 5000)))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            number += 1
            if number % 10 == 0:
                await asyncio.sleep(0)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[4:]
    asyncio.run(write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
