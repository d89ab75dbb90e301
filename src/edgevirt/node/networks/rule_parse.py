"""Access rules of the wire → rules of the packet filter. Pure; the only place that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, ip_network

from edgevirt.host.net.spec import Rule
from edgevirt.model.network import Acl, AclAction

_PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
}
_WITH_PORTS = frozenset({6, 17, 132})
_TRANSLATED = frozenset({6, 17})
_TYPES = frozenset({"ip", "protocol", "lport", "fport"})
_NOT_YET = frozenset({"host", "eidset", "adapter"})


class RuleError(Exception):
    """«rule 3: why»: part of the sentence that its caller says."""


def parse_rules(acls: Sequence[Acl]) -> tuple[tuple[Rule, ...], str]:
    """Rules in their order, and what is wrong with the first bad one («» if none).

    A bad rule ends the list: as the first match decides, what comes after it might have been
    meant for less. What no rule allows is denied, so an app never gets more than was written.
    """
    rules: list[Rule] = []
    for acl in acls:
        try:
            rule = _parse(acl)
        except RuleError as error:
            return tuple(rules), f"rule {acl.id}: {error}"
        if rule is not None:
            rules.append(rule)
    return tuple(rules), ""


def _parse(acl: Acl) -> Rule | None:
    """None: it speaks of IPv6 alone, which no network instance has."""
    matches = _matches(acl)
    remote = _network(matches["ip"]) if "ip" in matches else ""
    protocol = _protocol(matches.get("protocol", ""))
    local, far = _port(matches, "lport"), _port(matches, "fport")
    if (local or far) and protocol not in _WITH_PORTS:
        raise RuleError("ports need a protocol that has ports")
    if acl.action == AclAction.LIMIT:
        raise RuleError("limits are not supported yet")
    node_port = 0
    if acl.action == AclAction.PORTMAP:
        _check_portmap(acl, protocol, local)
        node_port, local = local, acl.app_port
    if remote is None:
        return None
    return Rule(
        action=acl.action,
        remote=remote,
        protocol=protocol,
        local_port=local,
        remote_port=far,
        node_port=node_port,
    )


def _matches(acl: Acl) -> dict[str, str]:
    matches: dict[str, str] = {}
    for kind, value in acl.matches:
        if kind in _NOT_YET:
            raise RuleError(f"matching by {kind} is not supported yet")
        if kind not in _TYPES:
            raise RuleError(f"there is no match type {kind!r}")
        if kind in matches:
            raise RuleError(f"{kind} is given twice")
        matches[kind] = value.strip()
    return matches


def _network(text: str) -> str | None:
    """None: an IPv6 one."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise RuleError(f"{text!r} is not an IP network") from None
    return str(network) if isinstance(network, IPv4Network) else None


def _protocol(text: str) -> int:
    if not text:
        return 0
    name = text.lower()
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    if name.isascii() and name.isdigit() and 0 < int(name[:4]) < 256:
        return int(name)
    raise RuleError(f"there is no protocol {text!r}")


def _port(matches: dict[str, str], kind: str) -> int:
    text = matches.get(kind, "")
    if kind not in matches:
        return 0
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536:
        return int(text)
    raise RuleError(f"{kind} {text!r} is not a port")


def _check_portmap(acl: Acl, protocol: int, node_port: int) -> None:
    if protocol not in _TRANSLATED:
        raise RuleError("a port map needs the protocol tcp or udp")
    if not node_port:
        raise RuleError("a port map needs an lport, the node's port")
    if not 0 < acl.app_port < 65536:
        raise RuleError(f"a port map needs the app's port, not {acl.app_port}")
