"""A bootstrap config holds what a node needs to reach the fleet, and proves where it comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from edgevirt.fleet.enrollment.bootstrap import make_bootstrap
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.objects.node.port import NodePort
from edgevirt.runtime import RealClock
from edgevirt.wire import controller_certs, envelope
from edgevirt.wire.convert import device as convert
from edgevirt.wire.messages import certs, config
from tests.unit.fleet.objects_world import NODE, changed

NOW = 1_700_000_000.0


def test_it_is_signed_and_brings_its_certificates(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys", ("localhost",), RealClock()).keys
    port = NodePort(name="eth0", address="192.0.2.7/24", gateway="192.0.2.1", dns=("192.0.2.1",))
    node = changed(NODE, ports=(port,), properties={"timer.port.testduration": "20"})
    message = config.BootstrapConfig.FromString(make_bootstrap(node, keys, NOW))
    published = certs.ZControllerCert(certs=message.controller_certs)
    trusted = controller_certs.verify_controller_certs(published, keys.root.pem, datetime.now(UTC))
    opened = envelope.open_envelope(message.signed_config.SerializeToString(), 100_000)
    envelope.require_sender(opened, trusted.signing.cert_hash)
    envelope.verify(trusted.signing.key, opened)
    noun = convert.from_message(config.EdgeDevConfig.FromString(opened.payload))
    assert noun.timestamp == NOW
    assert noun.properties == (("timer.port.testduration", "20"),)
    assert [(p.name, p.address) for p in noun.ports] == [("eth0", "192.0.2.7")]
    (network,) = noun.networks
    assert (network.subnet, network.gateway, network.dns) == (
        "192.0.2.0/24", "192.0.2.1", ("192.0.2.1",),
    )  # fmt: skip
    assert noun.apps == ()
