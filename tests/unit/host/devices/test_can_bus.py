"""A CAN bus is set before an app has it: on Debian's kernel, with two emulated controllers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.debian_kernel import on_debian_kernel

REPOSITORY = Path(__file__).parents[4]
BUS = ("-object", "can-bus,id=bus", *("-device", "kvaser_pci,canbus=bus") * 2)


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_an_app_talks_at_the_bit_rate_of_the_model_and_what_cannot_be_is_said(
    tmp_path: Path,
) -> None:
    said = on_debian_kernel(
        tmp_path,
        (
            "/usr/bin/env",
            f"PYTHONPATH={REPOSITORY}",
            sys.executable,
            "-m",
            "tests.kernel.on_can_bus",
        ),
        modules=("can-raw.ko", "kvaser_pci.ko", "/vcan.ko"),
        arguments=BUS,
    )
    told = json.loads(said.splitlines()[-1])
    assert told["first"] == {"up": True, "bitrate": 125_000, "modes": ["ONE-SHOT"]}
    assert told["second"] == {"up": True, "bitrate": 500_000, "modes": []}, "nothing stays"
    assert told["frame"], "what the app sends is on the bus"
    begin = "cannot set CAN bus can0 to"
    lacks = "its controller does not have that; a virtual bus has no bit rate"
    assert told["virtual"] == f"cannot set CAN bus vcan0 to 125000 bit/s: {lacks}"
    assert told["impossible"] == f"{begin} 1 bit/s: its controller has no such bit rate"
    nearest = "the nearest that its controller has is 1000000 bit/s"
    assert told["near"] == f"{begin} 990001 bit/s: {nearest}"
    assert told["fd"] == f"{begin} 500000 bit/s, fd: {lacks}"
    assert told["gone"].endswith("there is no such interface")


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_virtual_machine_talks_on_a_bus_of_the_node_which_is_given_back(tmp_path: Path) -> None:
    kernel = tmp_path / "can-guest"
    flags = ("-m32", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-Os")
    more = ("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wall", "-Werror")
    layout = "-Wl,-Ttext-segment=0x100000,-e,start,-z,noseparate-code,--build-id=none"
    source = REPOSITORY / "tests/kernel/can_guest.c"
    subprocess.run(["gcc", *flags, *more, layout, "-o", kernel, source], check=True)
    said = on_debian_kernel(
        tmp_path,
        (
            *("/usr/bin/env", f"PYTHONPATH={REPOSITORY}", "TMPDIR=/run"),
            *(sys.executable, "-m", "tests.kernel.on_can_machine", str(kernel)),
        ),
        modules=("can-raw.ko", "kvaser_pci.ko"),
        arguments=BUS,
        patience=800.0,
    )
    told = json.loads(said.splitlines()[-1])
    assert told == {"moved": True, "frame": True, "heard": True, "back": True}
