"""What the config grants, and which ports are open by it. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from edgevirt.model.access import VNC_PORT, AccessConfig, ConsoleGrant
from edgevirt.model.base import SwState
from edgevirt.model.domain import DomainStatus
from edgevirt.model.ids import AppId, NodeId
from edgevirt.model.node import ControllerCertificates
from edgevirt.wire.access import read_token
from edgevirt.wire.controller_certs import verify_signing

_MAX_DISPLAY: Final = 99
"""Their ports are 5900 to 5999 (EVE's)."""


class Dispatcher(msgspec.Struct, frozen=True):
    """Where sessions are held. `roots`: what its TLS certificate leads to; empty: what the
    controller's does."""

    uri: str
    roots: tuple[bytes, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """`refused`: «cannot use …: why», where nothing is granted because of it."""

    grants: Mapping[str, ConsoleGrant]
    dispatcher: Dispatcher | None = None
    refused: str = ""


NOTHING: Final = Wanted({})


class Believed(msgspec.Struct, frozen=True):
    """What the node was given, by which a token is judged: its controller and its root."""

    server: str
    root: bytes


def wanted(
    config: AccessConfig | None,
    certificates: ControllerCertificates | None,
    node: NodeId | None,
    believed: Believed,
    now: float,
) -> Wanted:
    """The token is judged here once more, from the node's root on: the agent is not believed."""
    if config is None or not config.token:
        return NOTHING
    if certificates is None or node is None:
        return Wanted({}, refused="cannot use the access token: the controller is not known yet")
    try:
        moment = datetime.fromtimestamp(now, UTC)
        key = verify_signing(certificates.signing.encode(), believed.root, moment)
        granted = read_token(config.token, key, node)
    except ValueError as error:
        return Wanted({}, refused=str(error))
    if not granted.grants:
        why = "it grants no console, and this node knows no other kind of session"
        return Wanted({}, refused=f"cannot use the access token: {why}")
    dispatcher = _dispatcher(granted.dispatcher, config, believed)
    alive = {grant.id: grant for grant in granted.grants if grant.end > now}
    if not alive:
        return Wanted({}, refused="cannot use the access token: by this node's clock it has ended")
    return Wanted(alive, dispatcher)


def _dispatcher(where: str, config: AccessConfig, believed: Believed) -> Dispatcher:
    """A path alone is the controller's own: it is reached, and believed, as the agent does."""
    if where.startswith("/"):
        return Dispatcher(f"wss://{believed.server}{where}")
    return Dispatcher(f"wss://{where}", config.dispatcher_roots)


def open_ports(statuses: Mapping[str, DomainStatus], *, allowed: bool) -> Mapping[int, AppId]:
    """By port of the node: whose screen is shown there. Of two with one display, the first."""
    found: dict[int, AppId] = {}
    for _, status in sorted(statuses.items()):
        display = status.vnc_display
        running = allowed and status.state == SwState.RUNNING
        if running and display is not None and 0 <= display <= _MAX_DISPLAY:
            found.setdefault(VNC_PORT + display, status.app)
    return found


def tls_context(dispatcher: Dispatcher, own: ssl.SSLContext) -> ssl.SSLContext:
    """`own`: by what the controller is believed."""
    if not dispatcher.roots:
        return own
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata="\n".join(root.decode() for root in dispatcher.roots))
    return context
