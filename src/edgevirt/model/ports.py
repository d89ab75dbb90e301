"""How the node reaches its controller: port configs, how each of them fared, and the ports as they
are.

A **port config** says how every port of the node is set up, all at once. Several of them are kept,
from several sources, in the order in which they are preferred; one is in use. Times are seconds
since 1970.
"""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun

ETHERNET = 1
"""As `Port.type`: the one type of port that works without further set-up."""


class Dhcp(enum.IntEnum):
    """How a port comes by its address: `DHCPType` of the wire."""

    NOOP = 0
    """Not said; as CLIENT."""
    STATIC = 1
    NONE = 2
    """No address at all: the port only passes traffic on."""
    CLIENT = 4


class ProxyServer(Noun, frozen=True, kw_only=True):
    """`protocol`: `proxyProto` of the wire: 0 http, 1 https, 2 socks, 3 ftp."""

    protocol: int
    server: str
    port: int = 0


class Proxy(Noun, frozen=True, kw_only=True):
    """The proxies behind a port. They are kept and reported; nothing goes through them yet."""

    discover: bool = False
    """Whether to look for a PAC file."""
    servers: tuple[ProxyServer, ...] = ()
    exceptions: str = ""
    pac: str = ""
    pac_url: str = ""
    rest: bytes = b""


class PortNetwork(Noun, frozen=True, kw_only=True):
    """What surrounds a port: `NetworkConfig` of the wire. Ports name it by `id`."""

    id: str
    dhcp: Dhcp = Dhcp.CLIENT
    subnet: str = ""
    """Of static addresses: `10.1.0.0/24`."""
    gateway: str = ""
    domain: str = ""
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    mtu: int = 0
    """0: what the interface has."""
    proxy: Proxy | None = None
    rest: bytes = b""


class PortSource(enum.StrEnum):
    """Where a port config comes from, by EVE's keys."""

    MANUAL = "manual"
    """Somebody at the machine."""
    CONTROLLER = "zedagent"
    BOOTSTRAP = "bootstrap"
    OVERRIDE = "override"
    LAST_RESORT = "lastresort"
    """Every Ethernet port by DHCP."""


class PortSettings(Noun, frozen=True, kw_only=True):
    """One port of a port config. `name`: in the controller's terms; `ifname`: the kernel's."""

    name: str
    ifname: str
    management: bool = True
    """Whether the node may reach its controller by it."""
    cost: int = 0
    """0 to 255; a lower one is preferred."""
    dhcp: Dhcp = Dhcp.CLIENT
    address: str = ""
    """Static: `10.1.0.7/24`."""
    gateway: str = ""
    domain: str = ""
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    mtu: int = 0
    proxy: Proxy | None = None
    network: str = ""
    """Id of its PortNetwork."""
    trouble: str = ""
    """Why the port cannot be used as it is asked for; the others go on without it."""


class PortConfig(Noun, frozen=True, kw_only=True):
    """Key: source. agent → ports, for what the controller wants; console → ports, for what somebody
    at the machine does.

    `priority`: its time; of two configs the later one is preferred.
    """

    source: PortSource
    priority: float
    ports: tuple[PortSettings, ...] = ()


class PortConfigState(enum.IntEnum):
    """How far the test of a port config is, by EVE's numbers."""

    NONE = 0
    FAIL = 1
    FAIL_WITH_IP_AND_DNS = 2
    SUCCESS = 3
    IP_DNS_WAIT = 4
    PCI_WAIT = 5
    INTERFACE_WAIT = 6
    REMOTE_WAIT = 7
    """Another, temporary failure at the controller's end: it's in use all the same."""
    ASYNC_WAIT = 8
    WWAN_WAIT = 9


class PortConfigEntry(Noun, frozen=True, kw_only=True):
    """A port config and how it fared. 0.0: never."""

    config: PortConfig
    state: PortConfigState = PortConfigState.NONE
    last_failed: float = 0.0
    last_succeeded: float = 0.0
    last_error: str = ""
    """«cannot X: why» of the last test; empty when it passed."""
    errors: tuple[tuple[str, str], ...] = ()
    """(port, why) of the last test."""


class PortConfigList(Noun, frozen=True, kw_only=True):
    """Key: `node`. ports → agent, console. The preferred one is first."""

    entries: tuple[PortConfigEntry, ...] = ()
    current: int = -1
    """Index of the one in use; -1: none. Above 0 the node fell back."""


class Reach(enum.StrEnum):
    """What a test of a port came to, the better the later; it decides what happens next."""

    NO_LINK = "no link"
    NO_ADDRESS = "no address"
    NO_DNS = "no DNS"
    NO_ROUTE = "no answer"
    """Nothing answered: no route, or silence."""
    REFUSED = "refused"
    NO_TLS = "no TLS"
    WRONG_SERVER = "wrong server"
    """Its certificate is for another name."""
    WRONG_ROOT = "wrong root"
    """Its certificate does not lead to a root certificate of the node."""
    CERTIFICATE_TIME = "certificate not valid now"
    REFUSES = "refuses"
    """It answers, but not as the controller should."""
    UNAVAILABLE = "not available now"
    OK = "ok"


class PortStatus(Noun, frozen=True, kw_only=True):
    """A port as it is, and what its last test said."""

    name: str
    ifname: str
    management: bool = True
    cost: int = 0
    dhcp: Dhcp = Dhcp.CLIENT
    network: str = ""
    present: bool = True
    """Whether the machine has such an interface."""
    up: bool = False
    mac: str = ""
    mtu: int = 0
    addresses: tuple[str, ...] = ()
    """With their prefix."""
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""
    proxy: Proxy | None = None
    reach: Reach | None = None
    """None: not tested, as of a port that isn't for management."""
    error: str = ""
    last_failed: float = 0.0
    last_succeeded: float = 0.0


class DeviceNetworkStatus(Noun, frozen=True, kw_only=True):
    """Key: `node`. ports → all. The port config in use, and its ports."""

    source: PortSource | None = None
    index: int = -1
    """Of the config in the list; above 0 the node fell back."""
    state: PortConfigState = PortConfigState.NONE
    since: float = 0.0
    """When `state` was reached."""
    testing: bool = False
    """Whether the config in use still has to prove itself."""
    ports: tuple[PortStatus, ...] = ()
    error: str = ""
    bootstrap_error: str = ""
    """Why the bootstrap config is not used."""


class Led(enum.IntEnum):
    """How often the light blinks in a row, by EVE's numbers."""

    UNKNOWN = 0
    NO_ADDRESS = 1
    CONNECTING = 2
    CONNECTED = 3
    ONBOARDED = 4
    RADIO_SILENCE = 5
    ONBOARDING_FAILED = 10
    NO_TLS = 12
    OCSP = 13
    CONTROLLER_CERTIFICATE = 14
    BAD_SIGNATURE = 15
    BOOTSTRAP = 16
    CONFLICT = 17
    NOT_FOUND = 18


class LedStatus(Noun, frozen=True, kw_only=True):
    """Key: `node`. console → all. `meaning`: the same in words."""

    led: Led
    meaning: str = ""
    since: float = 0.0
