"""The power button, as the kernel tells of it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from edgevirt.host.boot.button import is_pressed, open_buttons

POWER, ESCAPE = 116, 1


def event(kind: int, code: int, value: int) -> bytes:
    return struct.pack("qqHHi", 0, 0, kind, code, value)


@pytest.mark.parametrize(
    ("told", "pressed"),
    [
        (event(1, POWER, 1) + event(0, 0, 0), True),
        (event(1, ESCAPE, 1) + event(0, 0, 0), False),
        (event(1, POWER, 0), False),  # released
        (event(4, POWER, 1), False),  # no key at all
        (b"\1" * 7, False),
    ],
)
def test_only_the_power_key_s_going_down_is_a_press(told: bytes, pressed: bool) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    os.write(writing, told)
    assert is_pressed(reading) is pressed
    assert not is_pressed(reading)  # nothing new
    os.close(reading)
    os.close(writing)


def test_only_devices_with_such_a_key_are_opened(tmp_path: Path) -> None:
    system, devices = tmp_path / "sys", tmp_path / "dev"
    devices.mkdir()
    for name, keys in {
        "event0": "10000000000000 0",  # as the kernel tells of ACPI's power button
        "event1": "1f0000 0 0 0 0",  # a mouse
        "event2": "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe",  # a keyboard
        "event3": "nonsense",
    }.items():
        capabilities = system / name / "device/capabilities"
        capabilities.mkdir(parents=True)
        (capabilities / "key").write_text(keys + "\n")
        (devices / name).touch()
    opened = open_buttons(system, devices)
    names = [os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in opened]
    for descriptor in opened:
        os.close(descriptor)
    assert names == ["event0", "event2"]


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    assert open_buttons(tmp_path / "nothing") == ()
