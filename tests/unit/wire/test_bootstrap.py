"""A bootstrap config is believed by its signature alone, and gives the node a network alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model.ports import Dhcp
from edgevirt.wire import certificates, envelope
from edgevirt.wire.bootstrap import (
    BOOTSTRAP_MAX,
    Bootstrap,
    BootstrapError,
    open_bootstrap,
    seal_bootstrap,
)
from edgevirt.wire.certificates import Issuer, Validity
from edgevirt.wire.controller_certs import publish
from edgevirt.wire.messages import common, config

NOW = datetime(2046, 6, 1, tzinfo=UTC)
AT = NOW.timestamp()
VALID = Validity(NOW - timedelta(days=1), NOW + timedelta(days=365))


@dataclass(frozen=True)
class Identity:
    """A controller's root and signing certificate as PEM, and its key."""

    root: bytes
    signing: bytes
    key: ec.EllipticCurvePrivateKey


def make_identity() -> Identity:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = Issuer(certificates.make_root("root", root_key, VALID), root_key)
    signing = certificates.make_signing("signing", key.public_key(), root, VALID)
    return Identity(certificates.to_pem(root.certificate), certificates.to_pem(signing), key)


@pytest.fixture(scope="module")
def controller() -> Identity:
    return make_identity()


def a_config() -> config.EdgeDevConfig:
    message = config.EdgeDevConfig()
    message.config_timestamp.seconds = 1_700_000_000
    message.configItems.add(key="timer.config.interval", value="30")
    message.apps.add(displayname="smuggled")
    adapter = message.systemAdapterList.add(name="wan", uplink=True, networkUUID="n")
    adapter.addr = "192.0.2.7"
    message.deviceIoList.add(
        ptype=common.PhyIoNetEth, phylabel="wan", logicallabel="wan", phyaddrs={"Ifname": "eth0"}
    )
    message.networks.add(id="n", type=common.V4, ip=common.ipspec(
        dhcp=common.Static, subnet="192.0.2.0/24", gateway="192.0.2.1"
    ))  # fmt: skip
    return message


def sealed(controller: Identity, *, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    cert_hash = certificates.pem_hash(controller.signing)
    signed = envelope.seal(a_config().SerializeToString(), key or controller.key, cert_hash)
    return seal_bootstrap(signed, publish(controller.signing, [], []))


def test_ports_networks_and_properties_are_taken_and_nothing_else(controller: Identity) -> None:
    found = open_bootstrap(sealed(controller), controller.root, AT)
    assert isinstance(found, Bootstrap)
    assert found.at == 1_700_000_000
    assert found.properties == (("timer.config.interval", "30"),)
    (port,) = found.ports
    assert (port.name, port.ifname, port.address) == ("wan", "eth0", "192.0.2.7")
    assert found.networks[0].dhcp is Dhcp.STATIC


def test_another_root_another_key_and_another_time_are_told(controller: Identity) -> None:
    good = sealed(controller)
    with pytest.raises(BootstrapError, match="cannot use the bootstrap config: cannot trust cert"):
        open_bootstrap(good, make_identity().root, AT)
    with pytest.raises(BootstrapError, match="cannot use the bootstrap config"):
        open_bootstrap(
            sealed(controller, key=ec.generate_private_key(ec.SECP256R1())), controller.root, AT
        )
    with pytest.raises(BootstrapError, match="cannot use the bootstrap config"):
        open_bootstrap(good, controller.root, AT + 10 * 365 * 86_400)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 9, b"x" * (BOOTSTRAP_MAX + 1)])
def test_what_is_no_bootstrap_config_is_refused(controller: Identity, raw: bytes) -> None:
    with pytest.raises(BootstrapError, match="cannot use the bootstrap config"):
        open_bootstrap(raw, controller.root, AT)


def test_a_flipped_bit_is_noticed_wherever_it_is(controller: Identity) -> None:
    good = sealed(controller)
    expected = open_bootstrap(good, controller.root, AT)
    for at in range(0, len(good), 37):
        bad = bytearray(good)
        bad[at] ^= 0x04
        try:
            assert open_bootstrap(bytes(bad), controller.root, AT) == expected
        except BootstrapError:
            continue
