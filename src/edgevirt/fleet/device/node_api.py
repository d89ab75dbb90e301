"""The nodes' API as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgevirt.fleet.device.handler import Handler
from edgevirt.fleet.device.routes import KIB, MIB, Route, Sender
from edgevirt.fleet.transport.replies import Reply


def _node(path: str, limit: int, act: Callable[[Handler, int, bytes], Reply]) -> Route:
    return Route(b"POST", f"id/{{uuid}}/{path}", Sender.DEVICE, limit, act)


def _app(path: str, limit: int, act: Callable[[Handler, int, bytes, str], Reply]) -> Route:
    return Route(b"POST", path, Sender.DEVICE, limit, act)


def _app_logs(handler: Handler, row: int, payload: bytes, app: str) -> Reply:
    return handler.reports.app_logs(handler.registry.node(row), app, payload)


def _old_app_logs(handler: Handler, row: int, payload: bytes, app: str) -> Reply:
    return handler.reports.old_app_logs(handler.registry.node(row), app, payload)


ROUTES: Final = (
    Route(b"GET", "ping", Sender.NOBODY, 4 * KIB, lambda h: h.ping()),
    Route(b"GET", "certs", Sender.NOBODY, 4 * KIB, lambda h: h.certs()),
    Route(b"POST", "register", Sender.ONBOARDING, 64 * KIB, lambda h, opened: h.register(opened)),
    Route(b"POST", "uuid", Sender.DEVICE, 4 * KIB, lambda h, row, body: h.uuid(row, body)),
    _node("config", 16 * KIB, lambda h, row, body: h.config(row, body)),
    _node("attest", 256 * KIB, lambda h, row, body: h.attest(row, body)),
    _node("info", 512 * KIB, lambda h, row, body: h.reports.info(h.registry.node(row), body)),
    _node("metrics", MIB, lambda h, row, body: h.reports.metrics(h.registry.node(row), body)),
    _node("flowlog", MIB, lambda h, row, body: h.reports.flows(h.registry.node(row), body)),
    _node("hardwarehealth", MIB, lambda h, row, body: h.reports.health(h.registry.node(row), body)),
    _node(
        "newlogs", 72 * KIB, lambda h, row, body: h.reports.node_logs(h.registry.node(row), body)
    ),
    _app("id/{uuid}/apps/instanceid/{app}/newlogs", 72 * KIB, _app_logs),
    # As documented, without the node; the signer is the node.
    _app("apps/instanceid/{app}/newlogs", 72 * KIB, _app_logs),
    # Of old nodes.
    _node("logs", MIB, lambda h, row, body: h.reports.old_node_logs(h.registry.node(row), body)),
    _app("id/{uuid}/apps/instanceid/{app}/logs", MIB, _old_app_logs),
    _app("id/{uuid}/apps/instances/id/{app}/logs", MIB, _old_app_logs),
    _app("apps/instanceid/{app}/logs", MIB, _old_app_logs),
)
