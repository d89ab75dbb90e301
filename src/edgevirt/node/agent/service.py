"""The service: starts from the checkpoint, onboards, then polls, attests and reports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any, Final

from edgevirt.model import kinds
from edgevirt.model.node import AgentState, Identity
from edgevirt.node.agent import config, metrics, onboarding
from edgevirt.node.agent.attestation import Attestation
from edgevirt.node.agent.checkpoint import Checkpoint
from edgevirt.node.agent.info import News
from edgevirt.node.agent.link import Link
from edgevirt.node.agent.resolve import Resolve
from edgevirt.node.agent.state import Line
from edgevirt.node.agent.uploads import Uploads
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Kind, Put, engine, release
from edgevirt.wire.global_config import GLOBAL_CONFIG_MAX, GlobalConfigError, parse_global_config

_LOG: Final = logging.getLogger("edgevirt.agent")


async def run(context: Context) -> None:
    resolve = Resolve()
    resolve.held = bool(context.settings.lost)
    resolve.given = _given(context.paths.global_config)
    async with contextlib.AsyncExitStack() as ending, asyncio.TaskGroup() as group:
        group.create_task(engine.run(context.store, context.clock, [resolve]))
        identity = await _identity(context)
        checkpoint = Checkpoint(context.paths.checkpoint)
        link = Link(context, identity)
        ending.push_async_callback(link.close)
        line = Line(context, identity, link, checkpoint, node=checkpoint.facts.node)
        await _take_over(line)
        await config.load_checkpoint(line)
        group.create_task(link.follow_signatures())
        await onboarding.onboard(line)
        for task in (
            config.poll(line),
            config.watch_certificates(line),
            Attestation(line).run(),
            News(line).run(),
            Uploads(line).run(),
            metrics.report_metrics(line),
            metrics.report_health(line),
        ):
            group.create_task(task)


def _given(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        with path.open("rb") as file:
            return parse_global_config(file.read(GLOBAL_CONFIG_MAX + 1))
    except FileNotFoundError:
        return ()
    except (GlobalConfigError, OSError) as error:
        _LOG.error("%s; properties have their defaults until there is a config", error)
        return ()


async def _take_over(line: Line) -> None:
    """What the agent says by hand is whole from now on; old questions are withdrawn.

    The config is not: until there is one, nobody may take its absence for a wish to delete.
    """
    store = line.context.store
    questions: tuple[Kind[Any], ...] = (kinds.SIGN_REQUEST, kinds.QUOTE_REQUEST)
    for kind in questions:
        for key in await store.list(kind):
            await store.delete(kind, key)
    await line.tell(AgentState.STARTING)
    by_hand = (
        kinds.AGENT_STATUS,
        kinds.CONTROLLER_CERTIFICATES,
        kinds.SIGN_REQUEST,
        kinds.QUOTE_REQUEST,
        kinds.CONTROLLER_VAULT_KEY,
        kinds.LOG_UPLOAD,
        kinds.REPAIR_CONFIG,
    )
    await release(store, by_hand)


async def _identity(context: Context) -> Identity:
    async for event in context.store.watch(kinds.IDENTITY):
        if isinstance(event, Put):
            return event.resource.value
    raise RuntimeError("the store ended")


SERVICE = Service(
    name="agent",
    reads=(
        kinds.IDENTITY,
        kinds.SIGNATURE,
        kinds.QUOTE,
        kinds.ESCROW_KEY,
        kinds.VAULT_STATUS,
        kinds.SECURITY_MODULE,
        kinds.APP_INSTANCE_STATUS,
        kinds.APP_NETWORK_STATUS,
        kinds.NETWORK_INSTANCE_STATUS,
        kinds.VOLUME_STATUS,
        kinds.STORAGE_USE,
        kinds.CONTENT_TREE_STATUS,
        kinds.BLOB_STATUS,
        kinds.DOMAIN_STATUS,
        kinds.DOMAIN_METRIC,
        kinds.HOST_CAPACITY,
        kinds.MACHINE_DEVICES,
        kinds.ADAPTER_GROUP,
        kinds.ADAPTER_USE,
        kinds.NETWORK_METRIC,
        kinds.SERVICE_STATUS,
        kinds.LOG_BUNDLE,
        kinds.PORT_CONFIG_LIST,
        kinds.GIVEN_PROPERTIES,
        kinds.DEVICE_NETWORK_STATUS,
        kinds.BASE_OS_STATUS,
        kinds.SLOT,
        kinds.NODE_REBOOT,
    ),
    owns=(
        kinds.DEVICE_CONFIG,
        kinds.REPAIR_CONFIG,
        *Resolve.owns,
        kinds.CONTROLLER_CERTIFICATES,
        kinds.SIGN_REQUEST,
        kinds.QUOTE_REQUEST,
        kinds.CONTROLLER_VAULT_KEY,
        kinds.AGENT_STATUS,
        kinds.LOG_UPLOAD,
    ),
    run=run,
)
