"""A container image made on the spot from busybox, and a machine's corner to run it in."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.container.hypervisor import ContainerHypervisor
from edgevirt.host.domain.monitor import Runtime
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import Exit
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import Domain, DomainVolume
from edgevirt.model.ids import AppId
from tests.worlds.monitored import MonitoredWorld

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh cat chmod dd echo env grep hostname id ip ls mkdir mount mknod sleep tail touch unshare"
)
SCRIPT = """#!/bin/sh
verb=$1
shift
case "$verb" in
run) trap 'exit 0' TERM; echo ready; while :; do sleep 1 & wait $!; done ;;
stubborn) trap 'echo no' TERM; echo ready; while :; do sleep 1 & wait $!; done ;;
deaf) echo ready; exec sleep 100000 ;;
exit) exit "$1" ;;
hog) exec tail /dev/zero ;;
do) exec sh -c "$1" ;;
esac
"""
PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:2345:\nextra:x:3456:app\n"


def make_layer(layer: Path) -> Path:
    """The unpacked layer of an image whose entrypoint is `/bin/app`."""
    for name in ("bin", "etc", "home/app", "root"):
        (layer / name).mkdir(parents=True)
    (layer / "tmp").mkdir()
    (layer / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, layer / "bin/busybox")
    for applet in APPLETS.split():
        (layer / "bin" / applet).symlink_to("busybox")
    (layer / "bin/app").write_text(SCRIPT)
    (layer / "bin/app").chmod(0o755)
    (layer / "etc/passwd").write_text(PASSWD)
    (layer / "etc/group").write_text(GROUP)
    return layer


class ContainerWorld(MonitoredWorld):
    """Real containers."""

    domains = "domains"
    tells_codes = True
    looks_inside = True
    killed = (SwState.HALTED, Exit(137))
    overhead_kib = 0

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.layer = make_layer(directory / "layer")

    def hypervisor(self, **runtime: Any) -> ContainerHypervisor:
        """`runtime`: other than the usual."""
        domains = self.directory / "domains"
        return ContainerHypervisor(
            domains,
            self.directory / "consoles",
            apps=f"{self._cgroup}-user-apps",
            monitors=f"{self._cgroup}/monitors",
            partition=Partition(f"{self._cgroup}-real-time"),
            devices=self.devices,
            clock=self.clock,
            runtime=Runtime(domains / ".runc", **runtime),
        )

    def new_app(self) -> AppId:
        return AppId(str(uuid.uuid4()))

    def container_volume(self, *, readonly: bool = False, mount_dir: str = "") -> DomainVolume:
        """A fresh one over the busybox layer; 8 MiB may be written."""
        return DomainVolume(
            path=str(self._file_system()),
            format=ContentFormat.CONTAINER,
            layers=(str(self.layer),),
            readonly=readonly,
            mount_dir=mount_dir,
        )

    def blank_volume(self, mount_dir: str, *, readonly: bool = False) -> DomainVolume:
        return DomainVolume(
            path=str(self._file_system()),
            format=ContentFormat.RAW,
            mount_dir=mount_dir,
            readonly=readonly,
        )

    def _file_system(self) -> Path:
        path = self.directory / "volumes" / f"{uuid.uuid4()}#0"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True, capture_output=True)
        return path

    def domain(
        self,
        *cmd: str,
        app: AppId | None = None,
        generation: int = 1,
        memory_kib: int = 32_768,
        image: ImageConfig | None = None,
        volumes: tuple[DomainVolume, ...] | None = None,
        netns: str = "",
    ) -> Domain:
        app = app or self.new_app()
        image = image or ImageConfig(entrypoint=("/bin/app",))
        return Domain(
            app=app,
            name=f"{app}.1.1",
            display_name="test",
            activate=True,
            generation=generation,
            memory_kib=memory_kib,
            volumes=(self.container_volume(),) if volumes is None else volumes,
            image=ImageConfig(
                entrypoint=image.entrypoint,
                cmd=cmd,
                env=image.env,
                user=image.user,
                workdir=image.workdir,
            ),
            netns=netns,
            hostname="box",
        )

    def cgroup(self, app: AppId) -> Cgroup:
        return Cgroup(f"{self._cgroup}-user-apps/{app}")

    def freeze(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)

    async def output(self, domain: Domain, user_data: bytes = b"") -> tuple[int, str]:
        """Runs a domain to its end: exit code and console."""
        hypervisor = self.hypervisor()
        await hypervisor.create(domain, user_data)
        await hypervisor.start(domain.app)
        info = await hypervisor.wait_exit(domain.app)
        assert info is not None
        assert info.exit is not None
        await hypervisor.delete(domain.app)
        return info.exit.code, self.console(domain.app)


@contextlib.contextmanager
def network_namespace() -> Iterator[tuple[str, str]]:
    """(path, name of an interface in it)."""
    name = f"evtest{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        link = ["ip", "-n", name, "link", "add", "probe0", "type", "veth"]
        subprocess.run(link, check=True)
        yield f"/run/netns/{name}", "probe0"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
