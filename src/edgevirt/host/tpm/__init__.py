"""TPM 2.0: keys that never leave the machine, and what booted, signed by hardware."""

from edgevirt.host.tpm.failures import TpmError, TpmMismatch, TpmMissing
from edgevirt.host.tpm.measure import measure_config, read_measured
from edgevirt.host.tpm.module import Tpm, open_tpm
from edgevirt.host.tpm.protocol import Facts, KeyRole, Sealed, SecurityModule, Signed

__all__ = [
    "Facts",
    "KeyRole",
    "Sealed",
    "SecurityModule",
    "Signed",
    "Tpm",
    "TpmError",
    "TpmMismatch",
    "TpmMissing",
    "measure_config",
    "open_tpm",
    "read_measured",
]
