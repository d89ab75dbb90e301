"""The apps service among others, on the store between processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from edgevirt.model.kinds import APP_NETWORK, APP_NETWORK_STATUS, DOMAIN
from edgevirt.node.apps import SERVICE
from edgevirt.node.apps.service import read_boot
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import InStep, Kind, RealClock
from edgevirt.runtime.socket import SocketStore


async def test_networks_need_not_wait_for_apps_which_waits_for_networks(tmp_path: Path) -> None:
    """Else a node would start no app at all after a cold start."""
    names = {os.getuid(): "domains"}
    sockets, kinds = tmp_path / "sockets", tmp_path / "kinds"
    own = SocketStore(
        sockets,
        "apps",
        SERVICE.owns,
        SERVICE.reads,
        uid_names=names,
        persist_dir=kinds,
        held=SERVICE.owns,
    )
    networks = SocketStore(sockets, "networks", (), (APP_NETWORK, DOMAIN), uid_names=names)
    assert APP_NETWORK_STATUS in SERVICE.reads
    async with own, networks:
        paths = Paths(tmp_path / "config", tmp_path / "persist", tmp_path / "run")
        context = Context("apps", own, RealClock(), paths, Settings())
        running = asyncio.create_task(SERVICE.run(context))
        try:
            async with asyncio.timeout(60):
                await _in_step(networks, APP_NETWORK)
            domains = asyncio.create_task(_in_step(networks, DOMAIN))
            await asyncio.wait([domains], timeout=0.2)
            assert not domains.done(), "domains would remove what runs"
            domains.cancel()
            await asyncio.gather(domains, return_exceptions=True)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _in_step(store: SocketStore, kind: Kind[Any]) -> None:
    async for event in store.watch(kind):
        if isinstance(event, InStep):
            return


def test_run_of_the_node_is_named_by_the_machine_and_its_first_process(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b0a7\n")
    (tmp_path / "1").mkdir()
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / "1/stat").write_text(f"1 (in (it) x) {fields}")
    assert read_boot(tmp_path) == "b0a7/22"
    assert read_boot() == read_boot()
