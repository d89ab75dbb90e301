"""What a TPM remembers of its machine, without any key being used: its maker's certificate, and
that of the node which the machine was before.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.module import open_tpm

DEVICE_CERTIFICATE: Final = 0x150_0000
"""PEM; where EVE keeps it too."""
ENDORSEMENT: Final = 0x01C0_0002
"""The maker's certificate of the RSA endorsement key, DER (TCG EK Credential Profile, 2.2.1.4)."""


class Remembered(msgspec.Struct, frozen=True):
    """Empty: there is none. `endorsement`: DER; `device`: PEM."""

    endorsement: bytes = b""
    device: bytes = b""


def read_remembered(path: Path) -> Remembered:
    """`path`: of the TPM's device. A TPM that does not answer remembers nothing."""
    try:
        module = open_tpm(path)
    except TpmError:
        return Remembered()
    if module is None:
        return Remembered()
    found = {}
    with contextlib.closing(module):
        for name, index in (("endorsement", ENDORSEMENT), ("device", DEVICE_CERTIFICATE)):
            with contextlib.suppress(TpmError):
                found[name] = module.read_memory(index)
    return Remembered(**found)
