"""Virtual machines that start in a moment: each runs the unikernel of `examples/unikernel`."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import Exit
from edgevirt.host.kvm.guest import GuestFiles
from edgevirt.host.kvm.hypervisor import KvmHypervisor
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import Domain, DomainVolume, VirtualizationMode
from edgevirt.model.ids import AppId
from tests.worlds.monitored import MonitoredWorld

SOURCE = Path(__file__).parents[2] / "examples/unikernel"


@functools.cache
def unikernel(form: str = "kernel") -> bytes:
    """The kernel, compiled; `multiboot`: the one that starts by that."""
    with tempfile.TemporaryDirectory() as out:
        command = ["make", "-s", "-C", str(SOURCE), f"OUT={out}/", f"{out}/{form}"]
        subprocess.run(command, check=True)
        return Path(out, form).read_bytes()


class GuestWorld(MonitoredWorld):
    """Real virtual machines."""

    domains = "machines"
    tells_codes = False
    looks_inside = False
    killed = (SwState.BROKEN, Exit(137))
    overhead_kib = 300_000

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.kernel = directory / "kernel"
        self.kernel.write_bytes(unikernel())

    def hypervisor(self) -> KvmHypervisor:
        return KvmHypervisor(
            self.directory / "machines",
            self.directory / "consoles",
            self.directory / "firmware",
            self.directory / "tpms",
            GuestFiles.below(self.directory / "guest"),
            apps=f"{self._cgroup}-user-apps",
            monitors=f"{self._cgroup}/monitors",
            partition=Partition(f"{self._cgroup}-real-time"),
            devices=self.devices,
            clock=self.clock,
        )

    def disk(self, format: ContentFormat = ContentFormat.RAW, **more: Any) -> DomainVolume:
        """An empty one of a megabyte."""
        path = self.directory / f"{uuid.uuid4()}.disk"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", format.name.lower(), path, "1M"], check=True
        )
        return DomainVolume(path=str(path), format=format, **more)

    def domain(
        self,
        *cmd: str,
        app: AppId | None = None,
        generation: int = 1,
        memory_kib: int = 32_768,
        **more: Any,
    ) -> Domain:
        app = app or AppId(str(uuid.uuid4()))
        fields: dict[str, Any] = {
            "mode": VirtualizationMode.PV,
            "volumes": (self.disk(),),
            "kernel": str(self.kernel),
            "kernel_arguments": " ".join(cmd),
        }
        return Domain(
            app=app,
            name=f"{app}.1.1",
            display_name="test",
            activate=True,
            generation=generation,
            memory_kib=memory_kib,
            overhead_kib=self.overhead_kib,
            **{**fields, **more},
        )


@contextlib.contextmanager
def guest_world() -> Iterator[GuestWorld]:
    """In a directory whose name leaves room for a socket's. Its user closes the world."""
    directory = Path(tempfile.mkdtemp(prefix="edgevirt-test-"))
    directory.chmod(0o711)
    try:
        yield GuestWorld(directory)
    finally:
        shutil.rmtree(directory)
