"""A node grants what its controller signed for it, and opens the ports that it was told to."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model.access import AccessConfig, ConsoleGrant, ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.domain import DomainStatus
from edgevirt.model.ids import AppId, NodeId
from edgevirt.model.node import ControllerCertificates
from edgevirt.node.access.wanted import Believed, Dispatcher, Wanted, open_ports, wanted
from edgevirt.wire import access, certificates
from edgevirt.wire.certificates import Issuer, Validity

NOW = time.time()
NODE = NodeId("11111111-2222-3333-4444-555555555555")
GRANT = ConsoleGrant(id="s", app=AppId("app"), kind=ConsoleKind.SERIAL, key=bytes(32), end=NOW + 60)


class Controller:
    """A root, and a signing certificate that leads to it."""

    def __init__(self) -> None:
        now = datetime.fromtimestamp(NOW, UTC)
        validity = Validity(now - timedelta(days=1), now + timedelta(days=9))
        key, self.signing = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = certificates.make_root("root", key, validity)
        signing = certificates.make_signing(
            "signing", self.signing.public_key(), Issuer(root, key), validity
        )
        self.certificates = ControllerCertificates(signing=certificates.to_pem(signing).decode())
        self.believed = Believed("fleet.example:8443", certificates.to_pem(root))

    def grants(self, *grants: ConsoleGrant, where: str = access.PATH) -> AccessConfig:
        token = access.make_token(self.signing, NODE, grants, where)
        return AccessConfig(token=token, dispatcher_roots=(b"its own",))


MINE = Controller()


def judged(config: AccessConfig | None, by: Controller = MINE, now: float = NOW) -> Wanted:
    return wanted(config, by.certificates, NODE, MINE.believed, now)


def test_a_grant_leads_to_the_controller_s_own_door() -> None:
    want = judged(MINE.grants(GRANT))
    assert dict(want.grants) == {"s": GRANT}
    assert want.dispatcher == Dispatcher("wss://fleet.example:8443/access")


def test_another_dispatcher_is_believed_by_its_own_roots_alone() -> None:
    want = judged(MINE.grants(GRANT, where="relay.example:443/x"))
    assert want.dispatcher == Dispatcher("wss://relay.example:443/x", (b"its own",))


def test_no_config_and_no_token_grant_nothing_and_say_nothing() -> None:
    assert judged(None) == Wanted({})
    assert judged(AccessConfig(token="")) == Wanted({})


def test_certificates_that_do_not_lead_to_the_root_are_not_believed() -> None:
    """The agent handed them over; it is not believed either."""
    other = Controller()
    want = judged(other.grants(GRANT), by=other)
    assert not want.grants
    assert "cannot trust certificate" in want.refused


def test_a_token_that_the_controller_did_not_sign_grants_nothing() -> None:
    assert "cannot verify" in judged(Controller().grants(GRANT)).refused


def test_what_has_ended_by_the_node_s_clock_is_not_held() -> None:
    later = msgspec.structs.replace(GRANT, id="t", end=NOW + 600)
    assert set(judged(MINE.grants(GRANT, later), now=NOW + 61).grants) == {"t"}
    assert "has ended" in judged(MINE.grants(GRANT), now=NOW + 61).refused


def status(app: str, display: int | None, state: SwState = SwState.RUNNING) -> DomainStatus:
    return DomainStatus(app=AppId(app), name=app, state=state, since=1.0, vnc_display=display)


def test_a_screen_has_a_port_where_the_property_and_the_app_want_it() -> None:
    statuses = {"a": status("a", 0), "b": status("b", None), "c": status("c", 7)}
    assert open_ports(statuses, allowed=True) == {5900: "a", 5907: "c"}
    assert open_ports(statuses, allowed=False) == {}


def test_an_app_that_does_not_run_shows_nothing() -> None:
    assert open_ports({"a": status("a", 0, SwState.HALTED)}, allowed=True) == {}


def test_two_apps_of_one_display_do_not_share_it_and_none_leaves_the_range() -> None:
    statuses = {"b": status("b", 1), "a": status("a", 1), "c": status("c", 100)}
    assert open_ports(statuses, allowed=True) == {5901: "a"}
