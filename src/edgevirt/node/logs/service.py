"""The service: turns of the collector, and what the agent says of each bundle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edgevirt import __version__
from edgevirt.model import kinds
from edgevirt.model.node import LogBundle, LogUpload
from edgevirt.node.logs.collector import AppNames, Collector
from edgevirt.node.logs.lines import Dedup
from edgevirt.node.logs.shelf import Shelf, Shelved
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Put
from edgevirt.runtime.store import release
from edgevirt.wire.logs import NodeHeader

TURN = 1.0
"""Seconds between two looks at the files."""
TIDY = 60.0
QUOTA = "newlog.gzipfiles.ondisk.maxmegabytes"
DEDUP = "log.dedup.window.size"

_log = logging.getLogger(__name__)


async def run(context: Context) -> None:
    shelf = Shelf(context.paths.newlog)
    shelf.prepare()
    context.paths.newlog.mkdir(parents=True, exist_ok=True)
    ready: list[Shelved] = shelf.waiting()
    collector = Collector(
        context.paths.service_logs,
        context.paths.console_logs,
        context.paths.newlog / "marks.json",
        shelf,
        NodeHeader(image="IMGA", version=__version__),
        ready.append,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(_collect(context, collector, ready))
        group.create_task(_heed_uploads(context, shelf))
        group.create_task(_tidy(context, shelf, collector))


async def _collect(context: Context, collector: Collector, ready: list[Shelved]) -> None:
    while True:
        try:
            collector.turn(context.clock.now(), await _apps(context), await _node(context))
        except OSError as error:
            collector.rewind()
            _log.error("cannot keep logs: %s; tried again in %.0f s", error, TIDY)
            await context.clock.sleep(TIDY)
            continue
        while ready:
            bundle = ready[0]
            await context.store.put(
                kinds.LOG_BUNDLE,
                bundle.name,
                LogBundle(
                    path=str(bundle.path), app=bundle.app, created=bundle.created, size=bundle.size
                ),
            )
            ready.pop(0)
        await release(context.store, (kinds.LOG_BUNDLE,))
        await context.clock.sleep(TURN)


async def _apps(context: Context) -> dict[str, AppNames]:
    tasks = await context.store.list(kinds.DOMAIN_STATUS)
    return {
        key: AppNames(
            display=item.value.name,
            task=tasks[key].value.name if key in tasks else key,
            stays=item.value.disable_logs,
        )
        for key, item in (await context.store.list(kinds.APP_INSTANCE)).items()
    }


async def _node(context: Context) -> str:
    status = await context.store.get(kinds.AGENT_STATUS, "node")
    return status.value.node or "" if status else ""


async def _heed_uploads(context: Context, shelf: Shelf) -> None:
    async for event in context.store.watch(kinds.LOG_UPLOAD):
        if not isinstance(event, Put):
            continue
        name, answer = event.resource.key, event.resource.value
        _settle(answer, name, shelf)
        await context.store.delete(kinds.LOG_BUNDLE, name)


def _settle(answer: LogUpload, name: str, shelf: Shelf) -> None:
    settle: Callable[[str], None] = shelf.sent if answer.accepted else shelf.refused
    settle(name)
    if not answer.accepted:
        _log.warning("log bundle %s is set aside: %s", name, answer.why)


async def _tidy(context: Context, shelf: Shelf, collector: Collector) -> None:
    while True:
        quota = await _setting(context, QUOTA, 2048)
        collector.dedup = Dedup(await _setting(context, DEDUP, 0))
        for name in shelf.evict(shelf.quota(quota)):
            _log.error("log bundle %s is lost: the quota for logs is used up", name)
            await context.store.delete(kinds.LOG_BUNDLE, name)
        await context.clock.sleep(TIDY)


async def _setting(context: Context, name: str, default: int) -> int:
    found = await context.store.get(kinds.PROPERTY, name)
    return int(found.value.value) if found and found.value.value.isdigit() else default


SERVICE = Service(
    name="logs",
    reads=(
        kinds.APP_INSTANCE,
        kinds.DOMAIN_STATUS,
        kinds.AGENT_STATUS,
        kinds.LOG_UPLOAD,
        kinds.PROPERTY,
    ),
    owns=(kinds.LOG_BUNDLE,),
    run=run,
)
