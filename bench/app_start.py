"""How long an app takes to start when its image is there, beside the bare OCI runtime.

From `put` of a Domain into a store, with the real domains reconciler and the real container
adapter on it, to the status that says RUNNING. Beside it, in turns in the same run: `runc run
--detach` on a bundle of the same content, built and mounted before the clock starts. The network
is in neither. Needs root, runc, conmon and busybox-static.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import uvloop
from msgspec.structs import replace

from bench.domains_service import domains_service
from edgevirt.host.cgroup import Cgroup, swap_limited
from edgevirt.host.container.bundle import Bundle
from edgevirt.host.container.hypervisor import ContainerHypervisor
from edgevirt.host.domain.processors import Partition
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import Domain, DomainVolume
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import DOMAIN, DOMAIN_STATUS
from edgevirt.runtime import Gone, Put, RealClock
from edgevirt.runtime.memory import MemoryStore

ROUNDS = 15
AIM_MORE_MS = 150.0


class Corner:
    """A directory and a control group of this run alone, and an image in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.group = f"edgevirt-bench-{os.getpid()}"
        self.layer = directory / "layer"
        (self.layer / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.layer / "bin/busybox")
        self.hypervisor = ContainerHypervisor(
            directory / "domains",
            directory / "consoles",
            apps=f"{self.group}-user-apps",
            monitors=f"{self.group}/monitors",
            partition=Partition(f"{self.group}-real-time"),
            devices=FakeDevices(),
            clock=RealClock(),
        )

    def domain(self) -> Domain:
        """Of a new app, with a fresh volume."""
        app = AppId(str(uuid.uuid4()))
        volume = self.directory / "volumes" / app
        (volume / "upper").mkdir(parents=True)
        (volume / "work").mkdir()
        return Domain(
            app=app,
            name=f"{app}.1.1",
            display_name="bench",
            activate=True,
            memory_kib=65_536,
            volumes=(
                DomainVolume(
                    path=str(volume),
                    format=ContentFormat.CONTAINER,
                    layers=(str(self.layer),),
                ),
            ),
            image=ImageConfig(entrypoint=("/bin/busybox", "sleep", "1000")),
        )

    def close(self) -> None:
        for path in (f"{self.group}-user-apps", self.group):
            Cgroup(path).remove()


async def _ours(corner: Corner, store: MemoryStore) -> float:
    """Milliseconds."""
    domain = corner.domain()
    events = store.watch(DOMAIN_STATUS)
    began = time.perf_counter()
    await store.put(DOMAIN, domain.app, domain)
    async for event in events:
        if isinstance(event, Put) and event.resource.value.state == SwState.RUNNING:
            break
    took = time.perf_counter() - began
    await store.delete(DOMAIN, domain.app)
    async for event in events:
        if isinstance(event, Gone):
            break
    return took * 1000


def _bare(corner: Corner) -> float:
    """Milliseconds."""
    domain = corner.domain()
    domain = replace(domain, app=AppId(f"bare-{domain.app}"))
    bundle = Bundle(domain.app, corner.directory / "bare" / domain.app)
    group = f"{corner.group}-user-apps/{domain.app}"
    runc = ["runc", "--root", str(corner.directory / "runc")]
    try:
        bundle.build(domain, b"", cgroup=group, limit_swap=swap_limited())
        run = [*runc, "run", "--detach", "--bundle", str(bundle.directory), domain.app]
        began = time.perf_counter()
        subprocess.run(
            run, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None
        )
        return (time.perf_counter() - began) * 1000
    finally:
        subprocess.run([*runc, "delete", "--force", domain.app], check=False)
        bundle.remove()


async def _measure(corner: Corner) -> tuple[list[float], list[float]]:
    ours, bare = [], []
    kept = [(corner.directory / "consoles", ".log")]
    async with domains_service(corner.hypervisor, kept) as store:
        await _ours(corner, store)
        for _ in range(ROUNDS):
            ours.append(await _ours(corner, store))
            bare.append(await asyncio.to_thread(_bare, corner))
    return ours, bare


def run() -> list[dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        corner = Corner(Path(directory))
        try:
            ours, bare = runner.run(_measure(corner))
        finally:
            corner.close()
    value, floor = statistics.median(ours), statistics.median(bare)
    return [
        {
            "name": "app start, image present, no network",
            "value": value,
            "unit": "ms",
            "beside": "runc run --detach, same bundle",
            "beside_value": floor,
            "ratio": value / floor,
            "aim": f"≤ {AIM_MORE_MS:.0f} ms more",
        }
    ]


if __name__ == "__main__":
    print(run())
