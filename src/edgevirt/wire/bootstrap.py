"""The bootstrap config: what a controller signed for a node that cannot reach it yet.

It comes with the node's other files. Nobody vouches for these, so it is believed by its signature
alone, whose certificate has to lead to the root that the node was given. Only what gives the node a
network is taken from it: ports, their networks, and properties.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from edgevirt.model.node import Port
from edgevirt.model.ports import PortNetwork
from edgevirt.wire import envelope
from edgevirt.wire.controller_certs import verify_controller_certs
from edgevirt.wire.convert import port_networks, ports
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import certs, config

BOOTSTRAP_MAX: Final = 1 << 20
"""Bytes."""


class BootstrapError(WireError):
    """«cannot use the bootstrap config: why»."""


class Bootstrap(msgspec.Struct, frozen=True):
    """`at`: when the controller made it, seconds since 1970; 0.0: it doesn't say."""

    at: float
    ports: tuple[Port, ...]
    networks: tuple[PortNetwork, ...]
    properties: tuple[tuple[str, str], ...]


def open_bootstrap(raw: bytes, root_pem: bytes, now: float) -> Bootstrap:
    """Raises BootstrapError. `root_pem`: the node's root certificate; `now`: seconds since 1970."""
    try:
        wanted = _verified(raw, root_pem, datetime.fromtimestamp(now, UTC))
        found, _ = ports.ports(wanted.systemAdapterList, wanted.deviceIoList)
        networks = tuple(map(port_networks.port_network, wanted.networks))
    except DecodeError:
        raise BootstrapError(
            Reason.MALFORMED, "cannot use the bootstrap config: it cannot be read"
        ) from None
    except WireError as error:
        raise BootstrapError(error.reason, f"cannot use the bootstrap config: {error}") from error
    stamp = wanted.config_timestamp
    return Bootstrap(
        at=stamp.seconds + stamp.nanos / 1e9,
        ports=found,
        networks=networks,
        properties=tuple((item.key, item.value) for item in wanted.configItems),
    )


def _verified(raw: bytes, root_pem: bytes, now: datetime) -> config.EdgeDevConfig:
    if len(raw) > BOOTSTRAP_MAX:
        raise BootstrapError(Reason.TOO_LARGE, f"it has more than {BOOTSTRAP_MAX} bytes")
    message = config.BootstrapConfig.FromString(raw)
    published = certs.ZControllerCert(certs=message.controller_certs)
    trusted = verify_controller_certs(published, root_pem, now, exchange_required=False)
    opened = envelope.open_envelope(message.signed_config.SerializeToString(), BOOTSTRAP_MAX)
    envelope.require_sender(opened, trusted.signing.cert_hash)
    envelope.verify(trusted.signing.key, opened)
    return config.EdgeDevConfig.FromString(opened.payload)


def seal_bootstrap(signed_config: bytes, published: certs.ZControllerCert) -> bytes:
    """The file's content. `signed_config`: an envelope around an `EdgeDevConfig`."""
    message = config.BootstrapConfig(controller_certs=published.certs)
    message.signed_config.ParseFromString(signed_config)
    return message.SerializeToString()
