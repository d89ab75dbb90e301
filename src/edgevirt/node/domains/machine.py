"""What devices the machine has, told anew whenever something is plugged in or out."""

from __future__ import annotations

import logging
from typing import Final

from edgevirt.host.devices.protocol import DeviceError, Devices
from edgevirt.model.hardware import MachineDevices
from edgevirt.model.kinds import MACHINE_DEVICES
from edgevirt.runtime import Clock, Store

LOOK_SECONDS: Final = 30.0
_CALM: Final = 0.3
"""Seconds: one stick is a dozen events."""

_LOG: Final = logging.getLogger("edgevirt.domains")


async def tell_devices(store: Store, clock: Clock, devices: Devices) -> None:
    """Never returns."""
    while True:
        await tell_once(store, devices)
        await devices.await_change(LOOK_SECONDS)
        await clock.sleep(_CALM)


async def tell_once(store: Store, devices: Devices) -> None:
    try:
        found = await devices.measure()
    except DeviceError as failure:
        _LOG.error("%s; again in %.0f s", failure, LOOK_SECONDS)
        found = MachineDevices()
    known = await store.get(MACHINE_DEVICES, "node")
    if known is None or (known.value != found and found != MachineDevices()):
        await store.put(MACHINE_DEVICES, "node", found)
