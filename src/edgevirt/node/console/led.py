"""How often the light blinks, and what that means. Pure. The numbers: EVE's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgevirt.model.node import AgentState, AgentStatus, Fault
from edgevirt.model.ports import DeviceNetworkStatus, Led, Reach

MEANINGS: Final[Mapping[Led, str]] = {
    Led.UNKNOWN: "starting",
    Led.NO_ADDRESS: "no port has an address",
    Led.CONNECTING: "the controller does not answer",
    Led.CONNECTED: "the controller answers; not onboarded yet",
    Led.ONBOARDED: "onboarded, and in touch with the controller",
    Led.RADIO_SILENCE: "radio silence",
    Led.ONBOARDING_FAILED: "the controller refuses this node",
    Led.NO_TLS: "no trusted connection: wrong server, or wrong root certificate",
    Led.OCSP: "the controller's certificate was revoked",
    Led.CONTROLLER_CERTIFICATE: "the controller's certificates are not trusted",
    Led.BAD_SIGNATURE: "answers are not the controller's",
    Led.BOOTSTRAP: "the bootstrap config cannot be used",
    Led.CONFLICT: "another node has this serial",
    Led.NOT_FOUND: "the controller does not know this node",
}
_BY_FAULT: Final = {
    Fault.CERTIFICATES: Led.CONTROLLER_CERTIFICATE,
    Fault.SIGNATURE: Led.BAD_SIGNATURE,
    Fault.CONFLICT: Led.CONFLICT,
    Fault.UNKNOWN: Led.NOT_FOUND,
    Fault.REFUSED: Led.ONBOARDING_FAILED,
}
_DISTRUST: Final = frozenset(
    {Reach.NO_TLS, Reach.WRONG_SERVER, Reach.WRONG_ROOT, Reach.CERTIFICATE_TIME}
)


def choose_led(network: DeviceNetworkStatus | None, agent: AgentStatus | None) -> Led:
    """The worst that somebody there could do something about; else how far the node is."""
    if agent is not None and agent.state is AgentState.ONLINE:
        return Led.ONBOARDED
    if network is None or network.source is None:
        return Led.UNKNOWN
    if network.bootstrap_error:
        return Led.BOOTSTRAP
    ports = [port for port in network.ports if port.management]
    if not any(port.addresses for port in ports):
        return Led.NO_ADDRESS
    if agent is not None and agent.fault in _BY_FAULT:
        return _BY_FAULT[agent.fault]
    reached = {port.reach for port in ports}
    if Reach.OK in reached:
        onboarded = agent is not None and agent.node is not None
        return Led.CONNECTED if not onboarded else Led.CONNECTING
    return Led.NO_TLS if reached & _DISTRUST else Led.CONNECTING
