"""What this machine can run at all, told as it is found out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from msgspec.structs import replace

from edgevirt.host.domain.processors import Partition, read_cores
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.kvm.acceleration import TCG, XEN, acceleration
from edgevirt.host.kvm.guest import GuestFiles
from edgevirt.host.machine.capacity import Capacity, read_capacity
from edgevirt.host.xen.first_domain import starts_with_hardware
from edgevirt.host.xen.hypervisor import can_start_domains, read_machine_capacity
from edgevirt.model.domain import HostCapacity, VirtualizationMode
from edgevirt.model.kinds import HOST_CAPACITY
from edgevirt.runtime import Clock, Store

_LOG = logging.getLogger("edgevirt.domains")
LOOK_SECONDS: Final = 30.0


async def measure_capacity(
    modes: tuple[VirtualizationMode, ...], partition: Partition, guest: GuestFiles
) -> HostCapacity:
    machine = await _measure()
    xen = can_start_domains()
    no_cores = "its processors are Xen's" if xen else partition.refusal()
    return HostCapacity(
        memory_kib=machine.memory_kib,
        cpus=machine.cpus,
        modes=modes,
        cores=() if no_cores else read_cores()[1:],  # the first is the node's
        no_cores=no_cores,
        no_tpm="Xen's domains have none on this node" if xen else "",
        no_guest=_no_guest(modes, guest),
    )


class CapacityTeller:
    """The only one who tells it."""

    def __init__(self, store: Store, clock: Clock, capacity: HostCapacity) -> None:
        self._store = store
        self._clock = clock
        self._capacity = capacity

    async def tell(self, **found: Any) -> None:
        self._capacity = replace(self._capacity, **found)
        await self._store.put(HOST_CAPACITY, "node", self._capacity)

    async def tell_acceleration(self) -> None:
        """Whether guests run by the processor itself takes seconds to find out."""
        found = await asyncio.to_thread(_acceleration)
        if found == TCG:
            _LOG.warning("this machine's processor starts no guests: virtual machines are emulated")
        await self.tell(acceleration=found)

    async def tell_guest(self, guest: GuestFiles) -> None:
        """Never returns: it can be made while the node runs."""
        while True:
            found = _no_guest(self._capacity.modes, guest)
            if found != self._capacity.no_guest:
                await self.tell(no_guest=found)
            await self._clock.sleep(LOOK_SECONDS)


def _no_guest(modes: tuple[VirtualizationMode, ...], guest: GuestFiles) -> str:
    """Of a node without virtual machines nothing is said: it has no mode for them."""
    return guest.lack() if VirtualizationMode.PV in modes and not can_start_domains() else ""


async def _measure() -> Capacity:
    if can_start_domains():
        try:
            return await read_machine_capacity()
        except HypervisorError as failure:
            _LOG.error("%s; only the first domain's memory is reckoned with", failure)
    return read_capacity()


def _acceleration() -> str:
    if can_start_domains():
        return XEN if starts_with_hardware() else ""
    return acceleration()
