"""CAN buses of a machine: each moved into QEMU's own network, where QEMU then opens it.

It cannot be handed an open one. The guest has a card that QEMU shows it, and frames pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevirt.host.devices.handover import Handover
from edgevirt.host.devices.of_machine import bus_name, buses
from edgevirt.host.kvm.qmp import ask
from edgevirt.model.hardware import DomainDevice


async def join(
    directory: Path,
    monitor: Path,
    devices: Sequence[DomainDevice],
    namespace: str,
    handover: Handover,
) -> None:
    """Before the guest runs. `directory`: the domain's, where what was moved is kept in mind.
    `namespace`: of QEMU's network, a path. Raises HypervisorError.
    """
    for index, device in enumerate(buses(devices)):
        name = device.addresses.interface
        await asyncio.to_thread(handover.move_interface, directory, name, namespace, device.can)
        host: dict[str, Any] = {
            "qom-type": "can-host-socketcan",
            "id": f"on-{bus_name(index)}",
            "canbus": bus_name(index),
            "if": name,
        }
        await ask(monitor, "object-add", **host)
