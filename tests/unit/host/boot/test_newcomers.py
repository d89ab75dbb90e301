"""Devices that come while a machine runs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgevirt.host.boot.newcomers import Newcomers, aliases

PLUGGED = (
    b"add@/devices/x/usb1/1-1\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=usb:v0403p6001\0SEQNUM=7\0"
)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (PLUGGED, ("usb:v0403p6001",)),
        (PLUGGED.replace(b"add@", b"remove@", 1), ()),
        (b"add@/devices/virtual/net/veth0\0ACTION=add\0INTERFACE=veth0\0", ()),
        (b"libudev\0\xfe\xed\xca\xfe", ()),
        (b"", ()),
    ],
)
def test_only_who_came_and_says_what_drives_it_counts(told: bytes, found: tuple[str, ...]) -> None:
    assert aliases(told) == found


class Loads:
    """What was to be loaded; each loading takes until its file is there."""

    def __init__(self, done: Path) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.running: list[subprocess.Popen[bytes]] = []
        self._done = done

    def __call__(self, wanted: Iterable[str]) -> subprocess.Popen[bytes]:
        self.asked.append(tuple(wanted))
        script = f"until [ -e {self._done} ]; do sleep 0.01; done"
        self.running.append(subprocess.Popen(["sh", "-c", script]))
        return self.running[-1]


def test_what_comes_during_a_loading_is_the_next_one_s(tmp_path: Path) -> None:
    loads = Loads(tmp_path / "done")
    with contextlib.closing(Newcomers(loads)) as newcomers:
        newcomers.load(("first",))
        newcomers.load(("second", "third", "second"))
        assert loads.asked == [("first",)]
        assert newcomers.busy
        (tmp_path / "done").touch()
        loads.running[0].wait()
        newcomers.load()
        assert loads.asked == [("first",), ("second", "third")]
        loads.running[1].wait()
        newcomers.load()
        assert not newcomers.busy


@pytest.mark.root
def test_nobody_but_the_kernel_is_believed(tmp_path: Path) -> None:
    loads = Loads(tmp_path / "done")
    with contextlib.closing(Newcomers(loads)) as newcomers:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as other:
            other.bind((0, 0))
            other.sendto(PLUGGED, (0, 1))
        newcomers.hear()
    assert loads.asked == []
