"""What process 1 of a machine does before all else, as far as another machine can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.host.boot.early import _device_aliases


@pytest.mark.skipif(
    not Path("/sys/devices/system/cpu/modalias").exists(), reason="its kernel tells nothing of it"
)
def test_the_processor_is_among_what_modules_are_loaded_for() -> None:
    """KVM is one of them: without it every virtual machine is emulated."""
    assert [alias for alias in _device_aliases() if alias.startswith("cpu:type:")]
