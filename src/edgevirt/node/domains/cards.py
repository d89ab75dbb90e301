"""PhysicalIo → CardStatus: makes network cards have the virtual functions that are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from edgevirt.host.devices.protocol import DeviceError, Devices
from edgevirt.model.hardware import PhysicalIo
from edgevirt.model.kinds import CARD_STATUS, DOMAIN, DOMAIN_STATUS, MACHINE_DEVICES, PHYSICAL_IO
from edgevirt.model.sriov import CardStatus
from edgevirt.node.domains.virtual_functions import plan_split
from edgevirt.runtime import Inputs, Kind, Report, Retry

_RETRY: Final = 30.0


class CardReconciler:
    name = "network cards"
    spec: Kind[Any] = PHYSICAL_IO
    status: Kind[Any] = CARD_STATUS
    reads: tuple[Kind[Any], ...] = (MACHINE_DEVICES, DOMAIN, DOMAIN_STATUS)
    recheck: float | None = None

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def existing(self) -> Iterable[str]:
        return ()

    async def reconcile(
        self, key: str, spec: PhysicalIo | None, inputs: Inputs, report: Report[CardStatus]
    ) -> CardStatus | None:
        """What it made is seen in the machine's devices, which are measured anew by that."""
        machine = inputs.get(MACHINE_DEVICES, "node")
        if spec is None:
            return None
        if machine is None:
            return CardStatus()
        split = plan_split(spec, machine, users(inputs))
        if split.make is None:
            return CardStatus(why=split.why)
        try:
            await asyncio.to_thread(self._devices.split_pci, split.address, split.make)
        except DeviceError as failure:
            await report(CardStatus(why=str(failure)))
            raise Retry(str(failure), after=_RETRY) from failure
        return CardStatus()


def users(inputs: Inputs) -> dict[str, str]:
    """Apps in words, by the address of a PCI function that they have or are about to have."""
    statuses = inputs.all(DOMAIN_STATUS)
    return {
        device.addresses.pci: f'app "{domain.display_name}"'
        for key, domain in inputs.all(DOMAIN).items()
        for device in domain.devices
        if device.addresses.pci
        and (domain.activate or ((known := statuses.get(key)) is not None and known.pid))
    }
