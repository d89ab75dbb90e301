"""AppNetwork → Link: names, addresses and rules of an app's interfaces.

An app that is connected stays so, as it was, while what it now asks for cannot be had.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any

from edgevirt.host.net.filter import VIF_PREFIX
from edgevirt.host.net.spec import LinkSpec, Rule
from edgevirt.model.kinds import APP_NETWORK
from edgevirt.model.network import AclAction, AppInterface, AppNetwork
from edgevirt.node.networks.address_assign import AddressError, Register, assign_ip, assign_mac
from edgevirt.node.networks.kinds import BRIDGE, LINK, Bridge, Interface, Link
from edgevirt.node.networks.rule_parse import parse_rules
from edgevirt.runtime import Again, Inputs, Kind, Output

PROTOCOL_NAMES = {6: "tcp", 17: "udp"}


class _Missing(AddressError):
    """A network instance that isn't there, perhaps yet."""


class LinkPlanner:
    name = "networks.links"
    reads: tuple[Kind[Any], ...] = (APP_NETWORK, BRIDGE)
    owns: tuple[Kind[Any], ...] = (LINK,)

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        wanted = inputs.all(APP_NETWORK)
        present = {key: link for key, link in inputs.all(LINK).items() if key in wanted}
        register = Register()
        for link in present.values():
            for thing in _things(link.interfaces):
                register.hold(thing, link.app, link.name)
        bridges = inputs.all(BRIDGE)

        def turn(key: str) -> tuple[bool, int, str]:
            return key not in present, wanted[key].app_num, key

        gave_way = refused = False
        for key in sorted(wanted, key=turn):
            link = _Planning(wanted[key], present.get(key), bridges, register).link()
            gave_way = gave_way or (key in present and link != present[key])
            refused = refused or bool(link.why)
            yield Output(LINK, key, link)
        if gave_way and refused:
            yield Again(0.0)  # what one gave up may be what another was refused


class _Planning:
    """One app's turn."""

    def __init__(
        self,
        app: AppNetwork,
        before: Link | None,
        bridges: Mapping[str, Bridge],
        register: Register,
    ) -> None:
        self._app = app
        self._before = before.interfaces if before is not None else ()
        self._bridges = bridges
        self._register = register

    def link(self) -> Link:
        app = self._app
        why, waits = "", False
        try:
            bare = [self._interface(index, k) for index, k in enumerate(app.interfaces)]
        except AddressError as error:
            interfaces, why = tuple(self._standing()), str(error)
            waits = isinstance(error, _Missing)
        else:
            troubles: list[str] = []
            interfaces = tuple(
                self._with_rules(bare[index], wanted, troubles)
                for index, wanted in enumerate(app.interfaces)
            )
            why = "; ".join(troubles)
        self._register.keep_only(app.app, _things(interfaces))
        return Link(
            app=app.app,
            name=app.name,
            activate=app.activate,
            interfaces=interfaces,
            why=f"cannot connect {app.name}: {why}" if why else "",
            waits=waits,
        )

    def _standing(self) -> Iterator[Interface]:
        """Interfaces of before whose network instance is still what it was."""
        for interface in self._before:
            bridge = self._bridges.get(interface.network)
            spec = bridge.spec if bridge is not None else None
            place = (interface.link.bridge, interface.link.gateway)
            if spec is not None and (spec.name, spec.gateway) == place:
                yield interface

    def _interface(self, index: int, wanted: AppInterface) -> Interface:
        app = self._app
        bridge = self._bridges.get(wanted.network)
        if bridge is None:
            raise _Missing(f"there is no network instance {wanted.network}")
        if bridge.spec is None or bridge.config is None:
            raise AddressError(f"its network waits: {bridge.why}")
        before = self._address_before(index, wanted)
        mac = assign_mac(app.app, app.app_num, index, wanted)
        ip = assign_ip(
            bridge.config,
            wanted,
            before,
            lambda ip: self._register.is_free((wanted.network, ip)),
        )
        host_name = f"{VIF_PREFIX}{index}x{app.app_num}"
        if owner := self._register.hold(host_name, app.app, app.name):
            raise AddressError(f"the app number {app.app_num} is that of {owner}")
        for address in (mac, ip):
            if owner := self._register.hold((wanted.network, address), app.app, app.name):
                raise AddressError(f"the address {address} is asked for by {owner} as well")
        spec = bridge.spec
        link = LinkSpec(
            name=f"eth{index}",
            host_name=host_name,
            bridge=spec.name,
            mac=mac,
            ip=ip,
            prefix=IPv4Network(spec.subnet).prefixlen,
            gateway=spec.gateway,
            default_route=bool(spec.uplink),
            tap=app.taps,
        )
        return Interface(network=wanted.network, link=link)

    def _address_before(self, index: int, wanted: AppInterface) -> str:
        if index < len(self._before) and self._before[index].network == wanted.network:
            return self._before[index].link.ip
        return ""

    def _with_rules(self, bare: Interface, wanted: AppInterface, troubles: list[str]) -> Interface:
        rules, trouble = parse_rules(wanted.acls)
        if trouble:
            troubles.append(trouble)
        kept = tuple(rule for rule in rules if self._may(rule, bare, troubles))
        return Interface(network=bare.network, link=bare.link, rules=kept)

    def _may(self, rule: Rule, bare: Interface, troubles: list[str]) -> bool:
        """A port map that another app has is left out: then its port is closed, no more."""
        if rule.action != AclAction.PORTMAP:
            return True
        port = f"{PROTOCOL_NAMES[rule.protocol]} port {rule.node_port}"
        if not bare.link.default_route:
            troubles.append(f"{port} cannot be mapped: its network has no port of the node")
            return False
        owner = self._register.hold(_port(rule), self._app.app, self._app.name)
        if owner:
            troubles.append(f"{port} of the node is mapped to {owner}")
        return not owner


def _things(interfaces: Iterable[Interface]) -> Iterator[Hashable]:
    """What is given out once only."""
    for interface in interfaces:
        yield interface.link.host_name
        yield interface.network, interface.link.mac
        yield interface.network, interface.link.ip
        for rule in interface.rules:
            if rule.action == AclAction.PORTMAP:
                yield _port(rule)


def _port(rule: Rule) -> Hashable:
    return rule.protocol, rule.node_port
