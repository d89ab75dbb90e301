"""What a node asks of its machine's devices: what there is, and to hand some over.

Whoever takes a device says so before it does (`Taken`), so that after a crash it is known what has
to be given back.
"""

from __future__ import annotations

from typing import Protocol

from edgevirt.model.hardware import MachineDevices
from edgevirt.model.sriov import VirtualFunction


class DeviceError(Exception):
    """«cannot X: why»: worth another try."""


class Devices(Protocol):
    """All raise DeviceError. Calls for one device must not overlap."""

    async def measure(self) -> MachineDevices: ...

    async def await_change(self, seconds: float) -> None:
        """Until something was plugged in or out, at most `seconds`. What changed between two calls
        is not missed."""
        ...

    def close(self) -> None:
        """Hears of no more changes."""
        ...

    def take_pci(self, address: str) -> str:
        """Takes the function from its driver, for a program to drive. Idempotent. Blocks.

        Returns the file by which that is done, `/dev/vfio/7`.
        """
        ...

    def give_back_pci(self, address: str) -> None:
        """To the driver that the kernel would choose. Idempotent. Blocks."""
        ...

    def drive_function(self, address: str) -> str:
        """Lets the kernel drive a virtual function, as it would any device. Idempotent. Blocks.

        Returns the name of its network interface.
        """
        ...

    def free_function(self, address: str) -> None:
        """From the driver that it has by that. Idempotent. Blocks."""
        ...

    def split_pci(self, address: str, count: int) -> None:
        """Makes a network card have so many virtual functions, without drivers. Idempotent. Blocks.

        Another number than it has means that all go and come anew: refused while one is taken.
        """
        ...

    def read_function(self, card: str, index: int) -> VirtualFunction:
        """How its card treats it now. Blocks."""
        ...

    def set_function(self, function: VirtualFunction) -> None:
        """How its card treats it, with the card's interface up. Idempotent. Blocks."""
        ...
