"""Metrics, sent and forgotten: the next ones say more (EVE API v2, `metrics`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TypeVar

from edgevirt.host.machine import ecc, readings
from edgevirt.host.machine.ecc import MemoryController
from edgevirt.model import kinds
from edgevirt.node.agent.config import METRICS_TIMER
from edgevirt.node.agent.outcome import ACCEPTED, Failure, in_words
from edgevirt.node.agent.state import Line
from edgevirt.runtime import Kind
from edgevirt.wire.convert.measures import Line as Counters
from edgevirt.wire.convert.measures import LogBacklog, MetricReport, metric_message
from edgevirt.wire.convert.reports import stamp
from edgevirt.wire.messages import health

_log = logging.getLogger(__name__)
T = TypeVar("T")
FIRST = 5.0
"""Seconds until the first metrics, so that a new node shows some."""


async def report_metrics(line: Line) -> None:
    """Never returns."""
    await line.pause(FIRST)
    while True:
        report = await _gather(line)
        message = metric_message(report, line.node or "").SerializeToString()
        try:
            reply = await line.link.post(f"/id/{line.node}/metrics", message)
            if reply.status not in ACCEPTED:
                _log.warning("metrics are not accepted: %s", in_words(reply.status))
        except Failure as failure:
            _log.info("metrics are not sent: %s", failure)
        await line.pause(line.interval(METRICS_TIMER, 0.3, 1.0), line.metrics_bell)


async def _gather(line: Line) -> MetricReport:
    context = line.context
    counts = line.link.counts
    bundles = await _values(line, kinds.LOG_BUNDLE)
    return MetricReport(
        node=readings.measures(context.paths.checkpoint, context.clock.now()),
        apps=await _values(line, kinds.APP_INSTANCE_STATUS),
        domains=await _values(line, kinds.DOMAIN_METRIC),
        instances=await _values(line, kinds.NETWORK_INSTANCE_STATUS),
        networks=await _values(line, kinds.NETWORK_METRIC),
        volumes=await _values(line, kinds.VOLUME_STATUS),
        storage=(await _values(line, kinds.STORAGE_USE)).get("node"),
        services=await _values(line, kinds.SERVICE_STATUS),
        line=Counters(
            ifname=context.settings.uplink,
            failures=counts.failures,
            successes=counts.successes,
            last_failure=counts.last_failure,
            last_success=counts.last_success,
            unverified=counts.unverified,
            urls=counts.urls,
        ),
        logs=LogBacklog(
            bundles=len(bundles),
            size=sum(bundle.size for bundle in bundles.values()),
            oldest=min((bundle.created for bundle in bundles.values()), default=0.0),
        ),
        received_config=line.received_config,
        processed_config=line.processed_config,
    )


async def _values(line: Line, kind: Kind[T]) -> Mapping[str, T]:
    return {key: item.value for key, item in (await line.context.store.list(kind)).items()}


def health_message(
    node: str, now: float, controllers: Iterable[MemoryController]
) -> health.ZHardwareHealth:
    """Errors of memory. Disks' wear would take SMART, which nothing here reads yet."""
    message = health.ZHardwareHealth(dev_id=node, at_time_stamp=stamp(now))
    for controller in controllers:
        told = message.mr.memory_controllers.add(
            controller_name=controller.errors.name,
            ce_count=controller.errors.corrected,
            ue_count=controller.errors.uncorrected,
        )
        for rank in controller.ranks:
            told.ranks.add(rank_name=rank.name, ce_count=rank.corrected, ue_count=rank.uncorrected)
    return message


async def report_health(line: Line) -> None:
    """Never returns: at start and every 12 hours; sooner again when it was not accepted."""
    while True:
        message = health_message(
            line.node or "", line.context.clock.now(), ecc.memory_controllers()
        )
        try:
            path = f"/id/{line.node}/hardwarehealth"
            reply = await line.link.post(path, message.SerializeToString())
            accepted = reply.status in ACCEPTED
        except Failure as failure:
            _log.info("hardware health is not sent: %s", failure)
            accepted = False
        timer = line.interval("timer.hardwarehealth.interval", 0.3, 1.0)
        await line.pause(timer if accepted else 120.0)
