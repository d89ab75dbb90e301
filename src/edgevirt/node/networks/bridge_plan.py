"""NetworkInstance → Bridge: judges a network instance, and gives it a number and a port.

What was valid once stays as it is while its present config is not: a typing error cuts nobody off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any

from edgevirt.host.net.canonical import dns_name
from edgevirt.host.net.spec import BridgeSpec
from edgevirt.model.kinds import NETWORK_INSTANCE, PORT
from edgevirt.model.network import NetworkInstance, NetworkInstanceType
from edgevirt.model.node import Port
from edgevirt.node.networks.kinds import BRIDGE, Bridge
from edgevirt.runtime import Inputs, Kind, Output

_MTU_MIN, _MTU_MAX = 1280, 65535


class _Invalid(Exception):
    """Why a network instance cannot be made."""


class BridgePlanner:
    """`uplink`: the interface that stands for all ports while none is configured."""

    name = "networks.bridges"
    reads: tuple[Kind[Any], ...] = (NETWORK_INSTANCE, PORT)
    owns: tuple[Kind[Any], ...] = (BRIDGE,)

    def __init__(self, uplink: str) -> None:
        self._uplink = uplink

    def plan(self, inputs: Inputs) -> Iterable[Output]:
        present = inputs.all(BRIDGE)
        ports = inputs.all(PORT).values()
        instances = inputs.all(NETWORK_INSTANCE)
        numbers = _numbers(instances, present)
        accepted: list[tuple[str, IPv4Network]] = []
        for key in sorted(instances, key=lambda key: numbers[key]):
            instance, before = instances[key], present.get(key)
            bridge = self._bridge(instance, numbers[key], before, ports, accepted)
            if bridge.spec is not None:
                accepted.append((instance.name or key, IPv4Network(bridge.spec.subnet)))
            yield Output(BRIDGE, key, bridge)

    def _bridge(
        self,
        instance: NetworkInstance,
        number: int,
        before: Bridge | None,
        ports: Iterable[Port],
        accepted: Sequence[tuple[str, IPv4Network]],
    ) -> Bridge:
        try:
            port = _port(instance, ports, self._uplink)
            spec = _spec(instance, number, port, accepted)
        except _Invalid as error:
            return Bridge(
                network=instance.id,
                number=number,
                config=before.config if before is not None else None,
                spec=before.spec if before is not None else None,
                why=f"cannot make network instance {instance.name or instance.id}: {error}",
            )
        return Bridge(network=instance.id, number=number, config=instance, spec=spec)


def _numbers(
    instances: Mapping[str, NetworkInstance], present: Mapping[str, Bridge]
) -> dict[str, int]:
    """Everyone keeps its number; who is new gets the smallest free one, from 1."""
    numbers = {key: present[key].number for key in instances if key in present}
    taken = set(numbers.values())
    for key in sorted(instances):
        if key not in numbers:
            numbers[key] = next(n for n in range(1, len(taken) + 2) if n not in taken)
            taken.add(numbers[key])
    return numbers


def _spec(
    instance: NetworkInstance, number: int, uplink: str, accepted: Sequence[tuple[str, IPv4Network]]
) -> BridgeSpec:
    if instance.type != NetworkInstanceType.LOCAL:
        raise _Invalid("switch network instances come later")
    subnet = _subnet(instance)
    gateway = _address(instance.gateway, "gateway", subnet)
    first = _address(instance.dhcp_first, "start of the DHCP range", subnet)
    last = _address(instance.dhcp_last, "end of the DHCP range", subnet)
    if first > last:
        raise _Invalid(f"the DHCP range {first}–{last} ends before it starts")
    if first <= gateway <= last:
        raise _Invalid(f"the gateway {gateway} is inside the DHCP range {first}–{last}")
    for name, other in accepted:
        if subnet.overlaps(other):
            raise _Invalid(f"its subnet {subnet} overlaps {other} of {name}")
    if instance.mtu and not _MTU_MIN <= instance.mtu <= _MTU_MAX:
        raise _Invalid(f"the MTU {instance.mtu} is not between {_MTU_MIN} and {_MTU_MAX}")
    _check_names(instance)
    return BridgeSpec(
        name=f"bn{number}",
        owner=instance.id,
        mac=f"02:16:3e:06:{number // 256 % 256:02x}:{number % 256:02x}",
        subnet=str(subnet),
        gateway=str(gateway),
        uplink=uplink,
        mtu=instance.mtu,
    )


def _subnet(instance: NetworkInstance) -> IPv4Network:
    if not instance.subnet:
        raise _Invalid("it has no subnet")
    try:
        subnet = IPv4Network(instance.subnet, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise _Invalid(f"{instance.subnet!r} is not an IPv4 network") from None
    if subnet.prefixlen > 30:
        raise _Invalid(f"the subnet {subnet} has no room for a gateway and an app")
    return subnet


def _address(text: str, what: str, subnet: IPv4Network) -> IPv4Address:
    if not text:
        raise _Invalid(f"it has no {what}")
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise _Invalid(f"the {what} {text!r} is not an IPv4 address") from None
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise _Invalid(f"the {what} {address} is not a host address of {subnet}")
    return address


def _check_names(instance: NetworkInstance) -> None:
    named = [name for name, _ in instance.static_names]
    for name in [*named, *([instance.domain] if instance.domain else [])]:
        try:
            dns_name(name)
        except ValueError as error:
            raise _Invalid(str(error)) from None
    served = [ip for _, ips in instance.static_names for ip in ips]
    for address in (*instance.dns, *served):
        try:
            IPv4Address(address)
        except AddressValueError:
            raise _Invalid(f"{address!r} in its DNS config is not an IPv4 address") from None


def _port(instance: NetworkInstance, ports: Iterable[Port], uplink: str) -> str:
    """The interface of the port that is meant; of several, the cheapest. «» for air-gapped."""
    label = instance.port
    if not label:
        return ""
    known = sorted(ports, key=lambda port: (port.cost, port.name))
    if not known and label in _LABELS:
        return uplink
    for port in known:
        if label in (port.name, port.ifname) or (label in _LABELS and _LABELS[label](port)):
            return port.ifname or port.name
    if label == uplink:
        return uplink
    raise _Invalid(f"this node has no port {label}")


_LABELS: dict[str, Callable[[Port], bool]] = {
    "all": lambda port: True,
    "uplink": lambda port: port.uplink,
    "freeuplink": lambda port: port.uplink and port.cost == 0,
}
"""Labels that ports share without being given them: EVE's predefined ones."""
