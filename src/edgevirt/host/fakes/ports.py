"""Ports that are not there, with the same laws as real ones (`tests/conformance/test_ports.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.lease import Lease
from edgevirt.host.net.ports import PortsError, Setup


@dataclass
class Cable:
    """What an interface is plugged into. `lease`: what a DHCP server there gives at once."""

    up: bool = True
    lease: Lease | None = None


@dataclass
class FakePorts:
    """`cables` by interface name; call `touch` after changing them."""

    cables: dict[str, Cable] = field(default_factory=dict)
    wanted: dict[str, Setup] = field(default_factory=dict)
    applied: int = 0
    """How often `apply` was called with something new."""
    refuses: set[str] = field(default_factory=set)
    """Addresses that the machine will not have."""

    def __post_init__(self) -> None:
        self._event = asyncio.Event()

    def touch(self) -> None:
        self._event.set()

    async def prepare(self) -> None:
        pass

    async def interfaces(self) -> Mapping[str, Interface]:
        return {name: self._interface(name, cable) for name, cable in self.cables.items()}

    async def apply(self, wanted: Sequence[Setup]) -> None:
        asked = {setup.interface: setup for setup in wanted}
        if self.refuses & {setup.address for setup in wanted}:
            raise PortsError("cannot set up the ports: the machine refuses an address")
        if asked != self.wanted:
            self.wanted = asked
            self.applied += 1
            self.touch()

    async def changed(self) -> None:
        await self._event.wait()
        self._event.clear()

    async def close(self) -> None:
        pass

    def _interface(self, name: str, cable: Cable) -> Interface:
        bare = Interface(name=name, mac=f"02:00:00:00:00:{len(name):02x}", up=cable.up, mtu=1500)
        setup = self.wanted.get(name)
        if setup is None:
            return replace(bare, up=False)
        lease = cable.lease if setup.dhcp and cable.up else None
        address = lease.address if lease else setup.address
        gateway = setup.gateway or (lease.router if lease else "")
        return replace(
            bare,
            mtu=setup.mtu or bare.mtu,
            addresses=(address,) if address else (),
            routers=(gateway,) if gateway and address else (),
            dns=setup.dns or (lease.dns if lease else ()),
            ntp=setup.ntp or (lease.ntp if lease else ()),
            domain=setup.domain or (lease.domain if lease else ""),
        )
