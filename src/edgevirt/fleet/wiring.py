"""The fleet's parts, wired: each is told only of those that it needs, and they start in order.

Both APIs listen early and answer 503 until what they stand on has been read, so that a restart
looks like a short pause to nodes. A part that fails ends all.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgevirt.fleet.api import serving
from edgevirt.fleet.api.app import create_app
from edgevirt.fleet.attestation.attest import Attestation
from edgevirt.fleet.attestation.audit import Audit
from edgevirt.fleet.attestation.trust import Trust
from edgevirt.fleet.configs.configs import Configs
from edgevirt.fleet.configs.held import HeldConfigs
from edgevirt.fleet.configs.lineage import ConfigVersion
from edgevirt.fleet.configs.status import ConfigStatus
from edgevirt.fleet.consoles import Dispatcher
from edgevirt.fleet.device.handler import Handler
from edgevirt.fleet.device.node_api import ROUTES
from edgevirt.fleet.device.reports import Reports
from edgevirt.fleet.device.routes import Table
from edgevirt.fleet.enrollment.bootstrap import Bootstrap
from edgevirt.fleet.enrollment.enrollment import Enrollment
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.core.sealing import Sealer, load_sealer
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.readback.readback import Readback
from edgevirt.fleet.render import Objects, Rendered
from edgevirt.fleet.status.app_reports import AppReports
from edgevirt.fleet.status.liveness import Liveness
from edgevirt.fleet.status.node_reports import NodeReports
from edgevirt.fleet.status.statuses import Statuses
from edgevirt.fleet.telemetry import DEFAULT_QUOTAS, Quota, Stream, Telemetry
from edgevirt.fleet.transport.http import HttpServer
from edgevirt.fleet.transport.incoming import Limits
from edgevirt.fleet.transport.tls import make_tls_context
from edgevirt.fleet.transport.upgrade import Upgrades
from edgevirt.runtime import Clock, Store, StoreError
from edgevirt.runtime.sql import SqlStore
from edgevirt.wire import access as access_wire

_log: Final = logging.getLogger("edgevirt.fleet")

_KEYS_EVERY: Final = 2.0
"""Seconds between looks whether somebody rotated a certificate."""
_DAY: Final = 86_400.0
_SWEEP_EVERY: Final = 300.0
_ORPHANS_EVERY: Final = 3_600.0
WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  no address is bound by these

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Settings:
    """How this fleet runs. `names`: how nodes and people call it, besides the endpoints' hosts.

    `database`: SQLAlchemy's URL; empty: SQLite in the data directory.
    """

    data: Path
    nodes: Endpoint = ("127.0.0.1", 8443)
    operators: Endpoint = ("127.0.0.1", 6443)
    names: tuple[str, ...] = ()
    database: str = ""
    quotas: Mapping[Stream, Quota] = field(default_factory=lambda: DEFAULT_QUOTAS)
    limits: Limits = field(default_factory=Limits)

    @property
    def hosts(self) -> tuple[str, ...]:
        """For the TLS certificate."""
        given = (*self.names, self.nodes[0], self.operators[0], "localhost", "127.0.0.1")
        return tuple(dict.fromkeys(host for host in given if host not in WILDCARDS))

    @property
    def url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'fleet.db'}"

    @property
    def keys(self) -> Path:
        return self.data / "keys"


@dataclass(frozen=True)
class Ready:
    """Both APIs answer. Ports, as they came out where 0 was asked for."""

    nodes: int
    operators: int


class Fleet:
    """All parts of one process; each is told only of those that it needs."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.ring = KeyRing(settings.keys, settings.hosts, clock)
        self.sealer: Sealer = load_sealer(settings.keys)
        self._sql = SqlStore(settings.url)
        self.store: Store = self._sql
        self.telemetry = Telemetry(settings.data / "telemetry.db", clock, settings.quotas)
        self.registry = Registry(lambda *proof: self.ring.keys.integrity_token(*proof))
        self.events = Recorder(self.store, clock)
        self.configs = Configs(self.store, self.registry, self.ring, self.sealer, clock)
        dependencies = self.configs.dependencies
        objects = NodeObjects(self.store, dependencies)
        self.statuses = Statuses(
            self.telemetry,
            self.registry,
            dependencies,
            NodeReports(self.store, objects, self.registry, self.events, clock),
            AppReports(self.store, objects, dependencies, self.events, clock),
            clock,
        )
        self.config_status = ConfigStatus(self.store, self.registry, objects, clock)
        self.configs.on_rendered(self.config_status.on_rendered)
        self.configs.on_held(HeldConfigs(self.telemetry, objects, self.events, clock).tell)
        self.consoles = Dispatcher(
            self.store, self.events, lambda: self.ring.keys.signing.key, self.configs.forget, clock
        )
        self.configs.grants = self.consoles
        self.configs.on_rendered(self._on_rendered)
        self.ring.on_change(lambda _keys: self.consoles.forget_tokens())
        self.enrollment = Enrollment(self.store, self.registry, dependencies, self.events, clock)
        self.trust = Trust(self.store, self.registry, self.events, clock)
        self.attestation = Attestation(
            self.store, self.registry, self.ring, self.trust, self.events, clock
        )
        self.liveness = Liveness(
            self.store, self.registry, self.telemetry, objects, self.events, clock
        )
        self.handler = Handler(
            Table(ROUTES),
            self.registry,
            self.configs,
            self.enrollment,
            self.attestation,
            Reports(self.telemetry),
            self.ring,
            clock,
        )

    async def open(self) -> None:
        await self._sql.open()
        self.telemetry.start()

    async def close(self) -> None:
        await self.telemetry.close()
        await self._sql.close()

    async def serve(self, ready: Callable[[Ready], None], stop: asyncio.Event) -> None:
        upgrades = Upgrades(access_wire.PATH, self.consoles.serve_node)
        server = HttpServer(self.handler, self.clock, self.settings.limits, upgrades)
        context = make_tls_context(self.ring.tls_file)
        self.ring.on_change(lambda _keys: context.load_cert_chain(self.ring.tls_file))
        nodes_port = await server.listen(*self.settings.nodes, context)
        operators_port = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work, name=name)
                for name, work in {
                    "http": server.run(),
                    "operators": self._serve_operators(operators_port.set_result),
                    "registry": self.registry.follow(self.store),
                    "enrollment": self.enrollment.follow(),
                    "configs": self.configs.follow(),
                    "trust": self.trust.follow(),
                    "nodes": self._feed_nodes(),
                    "statuses": self.statuses.follow(),
                    "taken": self.config_status.follow_taken(),
                    "keys": self._every(_KEYS_EVERY, self._look_at_keys),
                    "rotation": self._every(_DAY, self._rotate_due),
                    "orphans": self._every(_ORPHANS_EVERY, self.enrollment.sweep),
                    "events": self._every(_SWEEP_EVERY, self.events.sweep),
                }.items()
            ]
            await self.liveness.load()
            await self.configs.in_step.wait()
            await self.enrollment.in_step.wait()
            tasks.append(group.create_task(self.liveness.watch(), name="liveness"))
            _settle_memory()
            ready(Ready(nodes_port, await operators_port))
            await stop.wait()
            _log.info("stopping")
            await server.close()
            for task in tasks:
                task.cancel()
        await self.liveness.keep()

    async def _serve_operators(self, started: Callable[[int], None]) -> None:
        extra = (
            *Readback(self.store, self.telemetry, self.clock).subresources(),
            *Audit(self.store).subresources(),
            *Bootstrap(self.ring, self.clock).subresources(),
        )
        tokens = Tokens(self.settings.data / "tokens.json")
        doors = Doors(tokens, self.ring.keys.operators.certificate, self.clock)
        app = create_app(
            *(self.store, doors, self.clock, self.sealer),
            extra=extra,
            streams=self.consoles.streams(),
        )
        host, port = self.settings.operators
        tls = serving.tls_context(serving.Tls(self.ring.tls_file, self.ring.operators_file))
        self.ring.on_change(lambda _keys: tls.load_cert_chain(self.ring.tls_file))
        await serving.serve(app, tls=tls, host=host, port=port, started=started)

    async def _on_rendered(
        self, objects: Objects, rendered: Rendered, _version: ConfigVersion
    ) -> None:
        if rendered.config.access is not None:
            self.consoles.note_asked(objects.node.key)

    async def _feed_nodes(self) -> None:
        """One watch of EdgeNodes for all, as decoding many is what a start costs most."""
        await self.registry.whole.wait()
        async for event in self.store.watch(kinds.EDGE_NODE):
            self.configs.take("EdgeNode", event)
            self.liveness.take(event)
            self.trust.take(event)
            await self.enrollment.take_node(event)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.clock.sleep(seconds)
            try:
                await work()
            except (StoreError, OSError) as error:
                _log.warning("%s; again in %.0f s", error, seconds)

    async def _look_at_keys(self) -> None:
        if self.ring.reload():
            _log.info("certificates were rotated")

    async def _rotate_due(self) -> None:
        for role in self.ring.rotate_due():
            _log.info("%s certificate neared its end: rotated", role)


def _settle_memory() -> None:
    """After loading: what stays is no longer looked at for garbage, what was used goes back."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # musl has none, and needs none
        ctypes.CDLL(None).malloc_trim(0)
