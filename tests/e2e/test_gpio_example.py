"""The catalog's two apps on one GPIO chip: each is told its own line, and is refused the other's.

No GPIO chip is at hand: what stands for one lets libgpiod say that it is none. That an app gets the
line that it may have, and what becomes of every other request, is in `test_gpio_warden.py`.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.model.content import ImageConfig
from edgevirt.model.hardware import Addresses, DomainDevice, GpioChip, IoType, MachineDevices
from tests.worlds.container import ContainerWorld
from tests.worlds.monitored import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.root]

EXAMPLE = Path(__file__).parents[2] / "examples/gpio"


@pytest.fixture
def chip() -> Iterator[str]:
    path = f"/dev/gpiochipTEST{os.getpid()}"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    yield path
    os.unlink(path)


async def test_each_app_knows_its_line_and_cannot_have_the_others(chip: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="edgevirt-test-"))
    subprocess.run(
        ["make", "-s", "-C", EXAMPLE, f"OUT={directory}/"], check=True, capture_output=True
    )
    world = ContainerWorld(directory)
    shutil.rmtree(world.layer)
    shutil.copytree(directory / "root", world.layer, symlinks=True)
    world.devices.plug(
        MachineDevices(gpio=(GpioChip(name=Path(chip).name, label="gpiochip0", lines=8),))
    )
    try:
        for name, line, other in (("pin-a", 4, 7), ("pin-b", 7, 4)):
            pin = Addresses(gpio=f"gpiochip0:{line}")
            domain = replace(
                world.domain(image=ImageConfig(entrypoint=("/bin/sh", "/app"))),
                devices=(DomainDevice(label=name, type=IoType.OTHER, addresses=pin),),
            )
            hypervisor = world.hypervisor()
            await hypervisor.create(domain, f"LINE={line}\nOTHER={other}\n".encode())
            await hypervisor.start(domain.app)
            app = domain.app
            await until(lambda app=app: "is not mine" in world.console(app))  # type: ignore[misc]
            said = world.console(domain.app)
            assert f"pins: I have line {line} of {chip}" in said
            assert f"pins: line {other} is not mine" in said
    finally:
        await world.close()
        shutil.rmtree(directory)
