"""Containers that each run in a virtual machine of their own: real ones, from busybox."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.domain.processors import Partition
from edgevirt.host.kvm.guest import GuestFiles
from edgevirt.host.kvm.hypervisor import KvmHypervisor
from edgevirt.image.build import open_build
from edgevirt.image.commands import CACHE_VARIABLE
from edgevirt.image.recipe import Arch, Variant
from edgevirt.model.domain import Domain, DomainVolume, VirtualizationMode
from tests.worlds.container import ContainerWorld

_World = TypeVar("_World", bound="ContainedWorld")
_Hypervisor = TypeVar("_Hypervisor", bound=KvmHypervisor)
LEAST_KIB = 128 * 1024
"""What such a machine gets that asks for less."""


@functools.cache
def guest_files() -> Path:
    """The kernel and the initrd, built."""
    cache = Path(os.environ.get(CACHE_VARIABLE, "build/image/cache"))
    return open_build(Variant.KVM, Arch.AMD64, cache, ()).guest().path


class ContainedWorld(ContainerWorld):
    domains = "machines"
    looks_inside = False
    overhead_kib = 300_000

    def hypervisor(self, **runtime: Any) -> KvmHypervisor:  # type: ignore[override]
        return self.made(KvmHypervisor)

    def made(self, kind: type[_Hypervisor]) -> _Hypervisor:
        return kind(
            self.directory / "machines",
            self.directory / "consoles",
            self.directory / "firmware",
            self.directory / "tpms",
            GuestFiles.below(guest_files()),
            apps=f"{self._cgroup}-user-apps",
            monitors=f"{self._cgroup}/monitors",
            partition=Partition(f"{self._cgroup}-real-time"),
            devices=self.devices,
            clock=self.clock,
        )

    async def pack(self) -> None:
        """Before there are domains."""
        packed = PackedLayers(self.directory / "packed")
        packed.begin()
        self._packed = str(await packed.make([str(self.layer)]))

    def container_volume(self, **more: Any) -> DomainVolume:
        return replace(super().container_volume(**more), packed=self._packed)

    def open_to_all(self, volume: DomainVolume) -> None:
        """Its file system's root is everybody's to write to."""
        set_mode = ["debugfs", "-w", "-R", "set_inode_field <2> mode 040777", volume.path]
        subprocess.run(set_mode, check=True, capture_output=True)

    def bare(self, domain: Domain) -> Domain:
        """The same without a machine."""
        return replace(domain, mode=VirtualizationMode.NOHYPER)

    def domain(self, *cmd: str, memory_kib: int = 0, **more: Any) -> Domain:
        memory_kib = max(memory_kib, LEAST_KIB)
        domain = super().domain(*cmd, memory_kib=memory_kib, **more)
        return replace(domain, mode=VirtualizationMode.PV, overhead_kib=self.overhead_kib)


@contextlib.contextmanager
def world_of(kind: type[_World]) -> Iterator[_World]:
    """In a directory whose name leaves room for a socket's. Its user closes the world."""
    directory = Path(tempfile.mkdtemp(prefix="edgevirt-test-"))
    directory.chmod(0o711)
    try:
        yield kind(directory)
    finally:
        shutil.rmtree(directory)


def contained_world() -> AbstractContextManager[ContainedWorld]:
    return world_of(ContainedWorld)
