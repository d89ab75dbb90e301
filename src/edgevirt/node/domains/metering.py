"""What running domains use, every few seconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgevirt.host.hypervisor import Hypervisor, HypervisorError
from edgevirt.model.base import SwState
from edgevirt.model.domain import DomainMetric
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import DOMAIN_METRIC, DOMAIN_STATUS
from edgevirt.runtime import Clock, Store

PERIOD_SECONDS = 10.0

_LOG = logging.getLogger("edgevirt.domains")


async def meter_forever(store: Store, clock: Clock, hypervisors: Sequence[Hypervisor]) -> None:
    while True:
        await meter_once(store, hypervisors)
        await clock.sleep(PERIOD_SECONDS)


async def meter_once(store: Store, hypervisors: Sequence[Hypervisor]) -> None:
    """Publishes a DomainMetric of each running domain, and takes back the others."""
    running = {
        app
        for app, status in (await store.list(DOMAIN_STATUS)).items()
        if status.value.state == SwState.RUNNING
    }
    measured = set()
    for app in sorted(running):
        metric = await _measure(AppId(app), hypervisors)
        if metric is not None:
            measured.add(app)
            await store.put(DOMAIN_METRIC, app, metric)
    for app in set(await store.list(DOMAIN_METRIC)) - measured:
        await store.delete(DOMAIN_METRIC, app)


async def _measure(app: AppId, hypervisors: Sequence[Hypervisor]) -> DomainMetric | None:
    try:
        for hypervisor in hypervisors:
            metric = await hypervisor.metrics(app)
            if metric is not None:
                return metric
    except (HypervisorError, OSError) as failure:
        _LOG.warning("cannot measure %s: %s; again in %d s", app, failure, PERIOD_SECONDS)
    return None
