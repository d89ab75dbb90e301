"""What a TPM remembers is read, and a machine without one remembers nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.remembered import (
    DEVICE_CERTIFICATE,
    ENDORSEMENT,
    Remembered,
    read_remembered,
)
from tests.parts.swtpm import Swtpm


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    simulated = Swtpm(tmp_path)
    simulated.start()
    try:
        assert read_remembered(simulated.socket) == Remembered()
        module = open_tpm(simulated.socket)
        assert module is not None
        with contextlib.closing(module):
            module.write_memory(DEVICE_CERTIFICATE, b"device" * 200)
            module.write_memory(ENDORSEMENT, b"maker")
        assert read_remembered(simulated.socket) == Remembered(b"maker", b"device" * 200)
    finally:
        simulated.stop()


def test_a_machine_without_a_tpm_remembers_nothing(tmp_path: Path) -> None:
    assert read_remembered(tmp_path / "none") == Remembered()
