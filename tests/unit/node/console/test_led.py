"""What the light says is what somebody in front of the machine can do something about."""

from __future__ import annotations

import msgspec
import pytest

from edgevirt.model.ids import NodeId
from edgevirt.model.node import AgentState, AgentStatus, Fault
from edgevirt.model.ports import DeviceNetworkStatus, Led, PortSource, PortStatus, Reach
from edgevirt.node.console.led import MEANINGS, choose_led


def network(reach: Reach | None, *addresses: str, **more: object) -> DeviceNetworkStatus:
    port = PortStatus(name="eth0", ifname="eth0", reach=reach, addresses=addresses)
    return DeviceNetworkStatus(source=PortSource.LAST_RESORT, index=0, ports=(port,), **more)  # type: ignore[arg-type]


def agent(state: AgentState, fault: Fault = Fault.NONE, node: str | None = None) -> AgentStatus:
    return AgentStatus(state=state, since=1.0, fault=fault, node=NodeId(node) if node else None)


A = "192.0.2.2/24"
ONBOARDING, ONLINE, OFFLINE = AgentState.ONBOARDING, AgentState.ONLINE, AgentState.OFFLINE


@pytest.mark.parametrize(
    ("there", "line", "led"),
    [
        (None, None, 0),
        (network(None), None, 1),
        (network(Reach.NO_ADDRESS), agent(ONBOARDING, Fault.UNREACHABLE), 1),
        (network(Reach.NO_ROUTE, A), agent(ONBOARDING, Fault.UNREACHABLE), 2),
        (network(Reach.OK, A), agent(ONBOARDING), 3),
        (network(Reach.OK, A), agent(ONLINE, node="n"), 4),
        (network(Reach.NO_ROUTE, A), agent(OFFLINE, Fault.UNREACHABLE, "n"), 2),
        (network(Reach.OK, A), agent(ONBOARDING, Fault.REFUSED), 10),
        (network(Reach.WRONG_ROOT, A), agent(ONBOARDING, Fault.UNREACHABLE), 12),
        (network(Reach.WRONG_SERVER, A), agent(ONBOARDING, Fault.UNREACHABLE), 12),
        (network(Reach.NO_TLS, A), None, 12),
        (network(Reach.CERTIFICATE_TIME, A), None, 12),
        (network(Reach.OK, A), agent(ONBOARDING, Fault.CERTIFICATES), 14),
        (network(Reach.OK, A), agent(OFFLINE, Fault.SIGNATURE, "n"), 15),
        (network(Reach.OK, A, bootstrap_error="cannot use"), agent(ONBOARDING), 16),
        (network(Reach.OK, A, bootstrap_error="cannot use"), agent(ONLINE, node="n"), 4),
        (network(Reach.OK, A), agent(ONBOARDING, Fault.CONFLICT), 17),
        (network(Reach.OK, A), agent(ONBOARDING, Fault.UNKNOWN), 18),
    ],
)
def test_each_state_has_its_number(
    there: DeviceNetworkStatus | None, line: AgentStatus | None, led: int
) -> None:
    assert choose_led(there, line) == led


def test_every_number_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Led)


def test_a_port_that_is_not_for_management_counts_for_nothing() -> None:
    there = network(None, A)
    (port,) = there.ports
    other = msgspec.structs.replace(port, management=False)
    assert choose_led(msgspec.structs.replace(there, ports=(other,)), None) is Led.NO_ADDRESS
