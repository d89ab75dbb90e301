"""A Linux guest with devices of the node: it uses them, not only finds them."""

from __future__ import annotations

import contextlib
import os
import tty
from pathlib import Path

import pytest

from edgevirt.model.hardware import Addresses, DomainDevice, IoType
from tests.parts.device_guest import make_device_guest
from tests.worlds.guest import guest_world
from tests.worlds.monitored import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1500)]

EMULATED = 600.0
"""Seconds for a Linux to come up: some 20 on a quiet machine."""


async def test_a_linux_guest_talks_over_a_serial_port_of_the_node_and_has_a_tpm(
    tmp_path: Path,
) -> None:
    kernel, initrd = make_device_guest(tmp_path)
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    heard = b""

    def hears(text: bytes) -> bool:
        nonlocal heard
        with contextlib.suppress(BlockingIOError):
            heard += os.read(ours, 4096)
        return text in heard

    with guest_world() as world:
        try:
            com = Addresses(serial=os.ttyname(theirs))
            domain = world.domain(
                kernel=str(kernel),
                ramdisk=str(initrd),
                kernel_arguments="console=ttyS0 quiet",
                memory_kib=192 * 1024,
                volumes=(),
                devices=(DomainDevice(label="com", type=IoType.COM, addresses=com),),
                tpm=True,
            )
            hypervisor = world.hypervisor()
            await hypervisor.create(domain, b"")
            await hypervisor.start(domain.app)
            await until(lambda: "guest: tpm 2" in world.console(domain.app), EMULATED)
            await until(lambda: hears(b"guest: on the line"), EMULATED)
            os.write(ours, b"ping\n")
            await until(lambda: hears(b"guest answers ping"), EMULATED)
            assert "guest: heard ping" in world.console(domain.app)
        finally:
            await world.close()
            os.close(ours)
            os.close(theirs)
