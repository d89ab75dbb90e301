"""From a bare process to one that services can be forked from, and the node's run to its end."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from edgevirt.host import memory
from edgevirt.host.boot.panics import take_panic
from edgevirt.host.boot.watchdog import was_reset
from edgevirt.host.rights.confine import permitted
from edgevirt.host.rights.seccomp import Filter, build_filter
from edgevirt.host.stage import running_programs
from edgevirt.node.paths import Paths
from edgevirt.node.service import Service, Settings
from edgevirt.node.services import ROWS, Row, load, owners, uid_names
from edgevirt.node.supervisor.boot import Traces, record_start
from edgevirt.node.supervisor.child import Work
from edgevirt.node.supervisor.directories import prepare, prepare_vault
from edgevirt.node.supervisor.records import log_to_file
from edgevirt.node.supervisor.supervisor import Options, Supervisor
from edgevirt.node.supervisor.warm import warm_up

_LOG: Final = logging.getLogger("edgevirt.supervisor")


def load_all(
    get_on: Callable[[], None] = lambda: None, rows: Iterable[Row] = ROWS
) -> dict[str, Service]:
    """The code of the services, by name. `get_on` is called after each of them."""
    memory.leave_out()
    memory.give_back()
    gc.disable()
    found = {}
    for row in rows:
        found[row.name] = load(row)
        get_on()
    return found


def get_ready(
    get_on: Callable[[], None] = lambda: None, rows: Iterable[Row] = ROWS
) -> dict[str, Service]:
    """All that takes long before a service can be forked, and nothing of it needs the machine to be
    ready. `get_on` is called after each step.
    """
    services = load_all(get_on, rows)
    gc.collect()
    gc.freeze()  # what is there stays; no collection from here on looks at it again
    warm_up(os.geteuid(), get_on)
    return services


def supervise(
    paths: Paths,
    settings: Settings,
    options: Options | None = None,
    rows: Iterable[Row] = ROWS,
    services: Mapping[str, Service] | None = None,
) -> int:
    """Runs the node's services in the present namespaces; needs root. Returns an exit code (see
    `node.init`). `services`: those of `rows`, when they are ready.
    """
    options = options or Options()
    by_name = {row.name: row for row in rows}
    services = services or get_ready(lambda: _feed(options), by_name.values())
    prepare(paths, services.values(), settings)
    log_to_file("supervisor", paths.service_logs / "supervisor.log")
    if options.fresh:
        boot = record_start(paths, time.time(), settings.slot, _traces(paths, settings))
        _LOG.info("start %d of the node, after: %s", boot.count, boot.text or boot.reason.name)
        for note in settings.notes:
            _LOG.warning("%s", note)
    work = Work(
        paths=paths,
        settings=settings,
        owners=owners(services.values()),
        uid_names=uid_names(by_name.values()),
        programs=running_programs(),
        filters={row.name: _filter_of(row) for row in by_name.values()},
        beat=options.beat,
    )
    gated = _has_gate(work, by_name)
    if not gated:
        prepare_vault(paths)
    supervisor = Supervisor(work, by_name, services, options, vault_open=not gated)
    permitted()
    _feed(options)
    gc.collect()
    gc.freeze()
    return supervisor.run()


def _feed(options: Options) -> None:
    """Between two steps of the start: none of them takes long."""
    if options.watchdog is not None:
        options.watchdog.feed()


def _has_gate(work: Work, rows: Mapping[str, Row]) -> bool:
    """Whether services wait for the vault: on a machine of its own, or with a TPM."""
    closable = not work.settings.host_mode or work.paths.tpm.exists()
    return closable and "trust" in rows


def _traces(paths: Paths, settings: Settings) -> Traces:
    """Only a machine of its own has any."""
    if settings.host_mode:
        return Traces()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return Traces(panic=take_panic(paths.crashes, stamp), watchdog=was_reset())


def _filter_of(row: Row) -> Filter:
    return build_filter(row.profile, network=row.network, privileged=not row.no_new_privileges)
