"""What a virtual machine costs under us, beside the same QEMU started by hand.

Its start: from `put` of a Domain, with the real domains reconciler and adapter, to the first line
that a unikernel prints. What a Linux guest reads and writes of a disk, and receives over a tap.
In turns in the same run; emulated where this machine's processor starts no guests. Needs root and
`make image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.domains_service import domains_service
from edgevirt.host.kvm.acceleration import PROGRAM, accelerator, processor
from edgevirt.host.kvm.seed import make_seed
from edgevirt.host.rights.namespace import Namespaces, setns
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import Domain, DomainVif, DomainVolume, VirtualizationMode
from edgevirt.model.kinds import DOMAIN
from edgevirt.runtime.memory import MemoryStore
from tests.e2e.guest_disk import make_guest_disk
from tests.worlds.guest import GuestWorld, guest_world

STARTS: Final = 7
ROUNDS: Final = 3
PATIENCE: Final = 300.0
MEBI: Final = 1 << 20
SIZE: Final = 1024
"""MiB that are read and written: a guest's clock has steps of 10 ms."""
RECEIVED: Final = 128
NAMESPACE: Final = "edgevirt-bench"
TAP: Final = "guest"
MAC: Final = "02:16:3e:00:00:99"
NODE, GUEST, PORT = "10.99.0.1", "10.99.0.2", 8000
MEASURE: Final = f"""#!/bin/sh
ifconfig eth0 {GUEST} netmask 255.255.255.0
time() {{
  what=$1; shift
  read began rest </proc/uptime
  "$@" 2>/dev/null || return
  read ended rest </proc/uptime
  echo "measured $what $began $ended"
}}
for turn in 1 2 3 4 5; do
  time read dd if=/dev/vdb of=/dev/null bs=1M count={SIZE} iflag=direct
  time write dd if=/dev/zero of=/dev/vdb bs=1M count={SIZE} oflag=direct
  time receive wget -q -O /dev/null http://{NODE}:{PORT}/received
done
echo "measured all"
"""


def run() -> list[dict[str, Any]]:
    with guest_world() as world, _network(world.directory):
        try:
            starts = asyncio.run(_starts(world))
            rates = asyncio.run(_rates(world))
        finally:
            asyncio.run(world.close())
    rows = [_row("VM start to its first line", starts[0], "ms", starts[1], "≤ 300 ms more")]
    for what, name in (("read", "reads"), ("write", "writes"), ("receive", "receives")):
        ours, theirs = ([rate[what] for rate in side] for side in rates)
        rows.append(_row(f"guest {name}", ours, "MiB/s", theirs, "≥ 0.95"))
    return rows


def _row(name: str, ours: list[float], unit: str, theirs: list[float], aim: str) -> dict[str, Any]:
    value, beside = statistics.median(ours), statistics.median(theirs)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "beside": "the same QEMU by hand",
        "beside_value": beside,
        "ratio": value / beside,
        "aim": aim,
    }


# -- its start -------------------------------------------------------------------------------------


async def _starts(world: GuestWorld) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    async with domains_service(world.hypervisor()) as store:
        for _ in range(STARTS):
            domain = world.domain("ready")
            ours.append(await _until_said(world, store, domain, "ready"))
            theirs.append(await asyncio.to_thread(_start_by_hand, world, domain))
    return ours, theirs


async def _until_said(world: GuestWorld, store: MemoryStore, domain: Domain, text: str) -> float:
    """Milliseconds from `put` until the console says it; then it is taken away."""
    began = time.perf_counter()
    await store.put(DOMAIN, domain.app, domain)
    async with asyncio.timeout(PATIENCE):
        while text not in world.console(domain.app):
            await asyncio.sleep(0.002)
    took = (time.perf_counter() - began) * 1000
    await store.delete(DOMAIN, domain.app)
    async with asyncio.timeout(PATIENCE):
        while await world.hypervisor().info(domain.app) is not None:
            await asyncio.sleep(0.01)
    return took


def _start_by_hand(world: GuestWorld, domain: Domain) -> float:
    """Milliseconds."""
    boot = ["-kernel", domain.kernel, "-append", domain.kernel_arguments]
    disk = ["-drive", f"if=virtio,format=raw,file={domain.volumes[0].path}"]
    began = time.perf_counter()
    with _by_hand(domain.memory_kib, *boot, *disk) as console:
        _await(lambda: "ready" in console())
        return (time.perf_counter() - began) * 1000


# -- what it moves ---------------------------------------------------------------------------------


async def _rates(world: GuestWorld) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    ours, theirs = [], []
    system = await asyncio.to_thread(make_guest_disk, _folder(world.directory / "system"))
    data = world.directory / "data"
    with data.open("wb") as file:
        for _ in range(SIZE):
            file.write(b"x" * MEBI)
    (world.directory / "received").write_bytes(b"x" * MEBI * RECEIVED)
    for path in (system, data):
        path.chmod(0o666)  # QEMU opens neither by itself, under us
    for _ in range(ROUNDS):
        ours.append(await _rate_ours(world, system, data))
        theirs.append(await asyncio.to_thread(_rate_by_hand, world, system, data))
    return ours, theirs


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


async def _rate_ours(world: GuestWorld, system: Path, data: Path) -> dict[str, float]:
    disks = [DomainVolume(path=str(path), format=ContentFormat.RAW) for path in (system, data)]
    domain = world.domain(
        memory_kib=384 << 10,
        kernel="",
        kernel_arguments="",
        mode=VirtualizationMode.PV,
        volumes=tuple(disks),
        vifs=(DomainVif(host_name=TAP, mac=MAC),),
    )
    hypervisor = world.hypervisor()
    await hypervisor.create(domain, MEASURE.encode())
    await hypervisor.start(domain.app)
    try:
        async with asyncio.timeout(PATIENCE):
            while "measured all" not in world.console(domain.app):
                await asyncio.sleep(0.2)
        return _read(world.console(domain.app))
    finally:
        await hypervisor.delete(domain.app)


def _rate_by_hand(world: GuestWorld, system: Path, data: Path) -> dict[str, float]:
    seed = world.directory / "seed.iso"
    seed.write_bytes(make_seed("bench", "bench", MEASURE.encode()))
    words = [
        *("-drive", f"if=virtio,format=raw,file={system}"),
        *("-drive", f"if=virtio,format=raw,file={data}"),
        *("-drive", f"if=virtio,format=raw,readonly=on,file={seed}"),
        *("-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile="),
    ]
    with _by_hand(384 << 10, *words) as console:
        _await(lambda: "measured all" in console())
        return _read(console())


def _read(console: str) -> dict[str, float]:
    """MiB/s, of each the best turn: what else the machine does only slows it."""
    found = re.findall(r"measured (\w+) ([\d.]+) ([\d.]+)", console)
    sizes = {"receive": RECEIVED}
    rates: dict[str, float] = {}
    for what, began, end in found:
        rate = sizes.get(what, SIZE) / (float(end) - float(began))
        rates[what] = max(rate, rates.get(what, 0.0))
    if len(rates) != 3:
        raise RuntimeError(f"cannot measure: the guest said\n{console[-2000:]}")
    return rates


# -- by hand ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _by_hand(memory_kib: int, *words: str) -> Iterator[Callable[[], str]]:
    """A QEMU with nothing around it; what is yielded reads its serial line."""
    command = [
        *("ip", "netns", "exec", NAMESPACE),
        *(PROGRAM, "-nodefaults", "-display", "none", "-machine", "q35"),
        *("-cpu", processor(accelerator())),
        *("-accel", accelerator(), "-m", f"size={memory_kib}k", "-serial", "stdio"),
        *words,
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe) as process:
        output = process.stdout
        assert output is not None
        said: list[bytes] = []
        os.set_blocking(output.fileno(), False)

        def console() -> str:
            said.append(output.read() or b"")
            return b"".join(said).decode(errors="replace")

        try:
            yield console
        finally:
            process.kill()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("cannot measure: the guest does not come up")
        time.sleep(0.002)


@contextlib.contextmanager
def _network(directory: Path) -> Iterator[None]:
    """A namespace with a tap, and a web server in it; this thread is in it as well."""
    run = functools.partial(subprocess.run, check=True)
    run(["ip", "netns", "add", NAMESPACE])
    try:
        inside = ["ip", "netns", "exec", NAMESPACE]
        run([*inside, "ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr"])
        run([*inside, "ip", "address", "add", f"{NODE}/24", "dev", TAP])
        run([*inside, "ip", "link", "set", TAP, "up"])
        serve = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(directory)]
        with subprocess.Popen(
            [*inside, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                with _inside(Path(f"/run/netns/{NAMESPACE}")):
                    yield
            finally:
                server.kill()
    finally:
        run(["ip", "netns", "delete", NAMESPACE])


@contextlib.contextmanager
def _inside(namespace: Path) -> Iterator[None]:
    """This thread, and what it starts: a tap is found where its opener is."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = os.open(namespace, os.O_RDONLY)
    try:
        setns(inside, Namespaces.NETWORK)
        yield
    finally:
        setns(outside, Namespaces.NETWORK)
        os.close(inside)
        os.close(outside)


if __name__ == "__main__":
    print(run())
