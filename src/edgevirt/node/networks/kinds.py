"""Kinds of the networks service's own: the steps between what is wanted and what is reported.

    NetworkInstance ─▶ Bridge ─▶ BridgeStatus ─────────────┐
                         │  └───▶ NameServer ─▶ NameServerStatus ─▶ NetworkInstanceStatus
    AppNetwork ───────▶ Link ──▶ GuestStatus ──────────────┐
                         └──────▶ Filter ─▶ FilterStatus ──┴──────▶ AppNetworkStatus

Bridge and Link keep what was given out (numbers, addresses, ports), so they are persistent.
"""

from __future__ import annotations

from edgevirt.host.net.spec import (
    BridgeSpec,
    Filter,
    LinkSpec,
    NameServerSpec,
    Rule,
)
from edgevirt.model.base import Noun
from edgevirt.model.ids import AppId, NetworkInstanceId
from edgevirt.model.network import NetworkInstance
from edgevirt.runtime import Kind


class Bridge(Noun, frozen=True, kw_only=True):
    """A network instance, resolved. Key: its id."""

    network: NetworkInstanceId
    number: int
    """The network instance's own for as long as it exists."""
    config: NetworkInstance | None = None
    """With `why`: what was last valid, if anything was."""
    spec: BridgeSpec | None = None
    """What follows from `config`."""
    why: str = ""
    """«cannot make …: …»."""


class BridgeStatus(Noun, frozen=True, kw_only=True):
    """Key: network instance id."""

    spec: BridgeSpec
    """What was made."""
    mtu: int
    why: str = ""


class Interface(Noun, frozen=True, kw_only=True):
    """An app's interface, resolved."""

    network: NetworkInstanceId
    link: LinkSpec
    rules: tuple[Rule, ...] = ()


class Link(Noun, frozen=True, kw_only=True):
    """An app's connection, resolved. Key: app id."""

    app: AppId
    name: str
    activate: bool
    interfaces: tuple[Interface, ...] = ()
    why: str = ""
    """«cannot connect …: …». Then `interfaces` is what still stands, if anything."""
    waits: bool = False
    """`why` ends by itself when the config of the node is whole: no error yet."""


class GuestStatus(Noun, frozen=True, kw_only=True):
    """Key: app id. Removed with the guest."""

    links: tuple[LinkSpec, ...] = ()
    """What was made."""
    netns: str = ""
    why: str = ""


class NameServerStatus(Noun, frozen=True, kw_only=True):
    """Key: the bridge's name, as of NameServer."""

    pid: int = 0
    why: str = ""


class PortTaken(Noun, frozen=True, kw_only=True):
    """A port of the node that cannot be mapped, and why."""

    protocol: int
    port: int
    why: str


class FilterStatus(Noun, frozen=True, kw_only=True):
    """Key: `node`."""

    applied: Filter = Filter()
    taken: tuple[PortTaken, ...] = ()
    why: str = ""


_NOBODY: frozenset[str] = frozenset()

BRIDGE = Kind("Bridge", Bridge, persistent=True, readers=_NOBODY)
BRIDGE_STATUS = Kind("BridgeStatus", BridgeStatus, readers=_NOBODY)
LINK = Kind("Link", Link, persistent=True, readers=_NOBODY)
GUEST_STATUS = Kind("GuestStatus", GuestStatus, readers=_NOBODY)
NAME_SERVER = Kind("NameServer", NameServerSpec, readers=_NOBODY)
NAME_SERVER_STATUS = Kind("NameServerStatus", NameServerStatus, readers=_NOBODY)
FILTER = Kind("Filter", Filter, readers=_NOBODY)
FILTER_STATUS = Kind("FilterStatus", FilterStatus, readers=_NOBODY)

NODE = "node"
"""The one key of Filter and FilterStatus."""

INTERNAL = (
    BRIDGE,
    BRIDGE_STATUS,
    LINK,
    GUEST_STATUS,
    NAME_SERVER,
    NAME_SERVER_STATUS,
    FILTER,
    FILTER_STATUS,
)
