"""A virtual machine to try an image in: firmware, a TPM, a watchdog, disks and network ports."""

from edgevirt.image.machine.running import Machine, MachineError, machine
from edgevirt.image.machine.spec import Firmware, MachineSpec, Port

__all__ = ["Firmware", "Machine", "MachineError", "MachineSpec", "Port", "machine"]
