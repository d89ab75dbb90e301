"""The diagnosis in words: what the node is, how it is, and what stands in its way. Pure.

Nothing in it changes by itself as time goes by, so that a line is printed when there is news.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.base import SwState
from edgevirt.model.baseos import Slot
from edgevirt.model.node import AgentState, AgentStatus, Identity
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Dhcp,
    Led,
    PortConfigList,
    PortStatus,
    Reach,
)
from edgevirt.node.console.led import MEANINGS

_HINTS: Final = {
    Reach.WRONG_ROOT: "is root-certificate.pem of the node's config the one of this controller?",
    Reach.WRONG_SERVER: "is the name in the file server of the node's config right?",
    Reach.CERTIFICATE_TIME: "is the clock of this machine right?",
    Reach.NO_LINK: "is the cable in?",
    Reach.NO_ADDRESS: "is there a DHCP server? Else give the node a static address.",
}
_STATES: Final = {
    AgentState.STARTING: "starting",
    AgentState.ONBOARDING: "onboarding",
    AgentState.ONLINE: "online",
    AgentState.OFFLINE: "offline",
}
_LABEL: Final = 13


class Facts(msgspec.Struct, frozen=True):
    """What is known; None and empty: nobody has said it yet."""

    version: str
    slot: str = ""
    server: str = ""
    serial: str = ""
    led: Led = Led.UNKNOWN
    identity: Identity | None = None
    agent: AgentStatus | None = None
    network: DeviceNetworkStatus | None = None
    configs: PortConfigList = msgspec.field(default_factory=PortConfigList)
    slots: Mapping[str, Slot] = msgspec.field(default_factory=dict)
    apps: Mapping[str, AppInstanceStatus] = msgspec.field(default_factory=dict)


def report(facts: Facts) -> list[str]:
    """Lines, none of them with control characters in it."""
    return [_printable(line.rstrip()) for line in _lines(facts)]


def _lines(facts: Facts) -> Iterator[str]:
    yield f"edgevirt {facts.version}{_slot(facts)}"
    yield ""
    state = _STATES[facts.agent.state] if facts.agent is not None else "starting"
    yield _row("state", f"{state}: {MEANINGS[facts.led]} (light blinks {int(facts.led)}×)")
    identity = facts.identity
    serial = (identity.serial if identity else "") or facts.serial or "none"
    soft = f", soft serial {identity.soft_serial}" if identity and identity.soft_serial else ""
    yield _row("serial", serial + soft)
    node = facts.agent.node if facts.agent is not None else None
    yield _row("node", node or "not onboarded")
    yield from _controller(facts)
    yield from _port_config(facts)
    yield from _ports(facts.network)
    yield _row("apps", _apps(facts.apps.values()))


def _controller(facts: Facts) -> Iterator[str]:
    yield _row("controller", facts.server or "none: the node's config holds no file server")
    if facts.agent is not None and facts.agent.trouble is not None:
        yield _row("", facts.agent.trouble.why)
        if facts.agent.trouble.hint:
            yield _row("", f"  {facts.agent.trouble.hint}")


def _port_config(facts: Facts) -> Iterator[str]:
    network = facts.network
    if network is None or network.source is None:
        yield _row("port config", "none yet")
        return
    entries, index = facts.configs.entries, network.index
    testing = ", being tested" if network.testing else ""
    yield _row("port config", f"{network.source} ({index + 1} of {len(entries)}){testing}")
    if 0 < index < len(entries):
        first = entries[0]
        yield _row("", f"fell back from that of {first.config.source}: {first.last_error}")
    if network.bootstrap_error:
        yield _row("", network.bootstrap_error)


def _ports(network: DeviceNetworkStatus | None) -> Iterator[str]:
    for index, port in enumerate(network.ports if network is not None else ()):
        yield _row("ports" if index == 0 else "", _port(port))
        if port.error:
            yield _row("", f"  {port.error}")
        if port.reach in _HINTS:
            yield _row("", f"  {_HINTS[port.reach]}")


def _port(port: PortStatus) -> str:
    name = port.name if port.name == port.ifname else f"{port.name} ({port.ifname})"
    how = {Dhcp.STATIC: "static", Dhcp.NONE: "no address wanted"}.get(port.dhcp, "DHCP")
    words = [name, "up" if port.up else "no link" if port.present else "missing", how]
    words += [", ".join(port.addresses)] if port.addresses else []
    words += [f"router {', '.join(port.routers)}"] if port.routers else []
    words += [f"DNS {', '.join(port.dns)}"] if port.dns else []
    words += ["reaches the controller"] if port.reach is Reach.OK else []
    return "; ".join(words)


def _apps(apps: Iterable[AppInstanceStatus]) -> str:
    states = [app.state for app in apps]
    return f"{states.count(SwState.RUNNING)} of {len(states)} running" if states else "none"


def _slot(facts: Facts) -> str:
    for slot in facts.slots.values():
        if slot.current:
            return f", slot {slot.label} ({slot.state})"
    return f", slot {facts.slot}" if facts.slot else ""


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _printable(line: str) -> str:
    """Words of others stand in it: a name, a server's answer."""
    return "".join(c if c.isprintable() else "?" for c in line)[:400]
