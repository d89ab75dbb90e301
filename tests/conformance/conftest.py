"""Fixtures of the conformance suites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from tests.conformance.store_drivers import DRIVERS, HISTORIC, LASTING, Arena


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The socket driver is written for any event loop; the node runs it on uvloop."""
    if item.path.name == "test_store_socket.py":
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


async def _opened(name: str, path: Path) -> AsyncIterator[Arena]:
    async with AsyncExitStack() as stack:
        yield await DRIVERS[name](path, stack)


@pytest.fixture(params=DRIVERS)
async def arena(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Arena]:
    """Each driver of the Store in turn."""
    async for arena in _opened(request.param, tmp_path):
        yield arena


@pytest.fixture(params=LASTING)
async def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Arena]:
    """Each driver whose values survive a restart."""
    async for arena in _opened(request.param, tmp_path):
        yield arena


@pytest.fixture(params=HISTORIC)
async def historic(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Arena]:
    """Each driver that keeps a history."""
    async for arena in _opened(request.param, tmp_path):
        yield arena


@pytest.fixture(params=[name for name in DRIVERS if name not in HISTORIC])
async def forgetful(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Arena]:
    """Each driver that keeps none."""
    async for arena in _opened(request.param, tmp_path):
        yield arena
