"""Virtual machines and unikernels on a whole system: real disks, a real network, real QEMUs."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgevirt.image.oci import Layer, Pusher, make_image
from edgevirt.model.content import ImageConfig
from edgevirt.model.ids import Digest
from tests.e2e.system import NODE, System, eventually, kill, whole_system
from tests.guest_world import unikernel

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]

IPXE = Path("/boot/ipxe.lkrn")
MEMORY = "64Mi"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("machines")) as made:
        kernel = made.directory / "kernel"
        kernel.write_bytes(unikernel())
        add_disk(made, "unikernel", kernel)
        yield made


def add_disk(system: System, name: str, path: Path, format: str = "Raw") -> None:
    """An Image of one file: the one layer of an artifact in the registry."""
    digest = Digest(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    image = make_image([Layer(path, digest, digest, path.stat().st_size)], ImageConfig())

    async def push() -> str:
        pusher = Pusher(system.registry.host)
        try:
            return str(await pusher.push(image, f"{name}:1"))
        finally:
            await pusher.close()

    sha256 = asyncio.run(push()).removeprefix("sha256:")
    system.add_image(name, f"{name}:1", format=format, sha256=sha256)


def add_machine(system: System, name: str, image: str, **spec: Any) -> None:
    resources = {"cpu": 1, "memory": MEMORY}
    system.fleet.create("App", name, {"image": image, "resources": resources, **spec})
    system.fleet.create("AppInstance", name, {"app": name, "edgeNode": NODE})


def console(system: System, name: str) -> str:
    return system.command("logs", f"appinstance/{name}").stdout


def says(system: System, name: str, text: str) -> None:
    eventually(f"{name} says {text}", lambda: text in console(system, name), 60, 0.5)


def machine_pid(system: System, name: str) -> int:
    """Of the app's QEMU; 0 while there is none."""
    wanted = system.app_id(name)
    for pid in system.pids("qemu-system-x86"):
        if wanted in Path(f"/proc/{pid}/cgroup").read_text():
            return pid
    return 0


def running(system: System, name: str) -> bool:
    return system.app_state(name) == "RUNNING"


def boot_sector(text: str) -> bytes:
    """A disk that prints a text on the serial line when a BIOS boots it, then waits."""
    # xor ax,ax; mov ds,ax; mov si,0x7c20; next: lodsb; test al,al; jz end; mov dx,0x3f8; out dx,al
    # jmp next; end: sti; hlt; jmp end
    code = bytes.fromhex("31c0 8ed8 be207c ac 84c0 7406 baf803 ee ebf5 fb f4 ebfc")
    sector = code.ljust(0x20, b"\0") + text.encode() + b"\r\n\0"
    return sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)


def test_a_virtual_machine_boots_from_a_qcow2_and_what_it_prints_is_kept(system: System) -> None:
    raw, disk = system.directory / "boot.raw", system.directory / "boot.qcow2"
    raw.write_bytes(boot_sector("booted from its disk"))
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)]
    subprocess.run(convert, check=True)
    add_disk(system, "disk", disk, "Qcow2")
    add_machine(system, "machine", "disk", type="VM", userData="#cloud-config\n")
    says(system, "machine", "booted from its disk")
    assert running(system, "machine")
    status = system.fleet.status("EdgeNode", NODE)
    assert status["virtualization"] in ("Hardware", "Emulated")


def test_legacy_hardware_boots_from_a_floppy_disk(system: System) -> None:
    floppy = system.directory / "floppy.img"
    floppy.write_bytes(boot_sector("booted from a floppy")[:512].ljust(1474560, b"\0"))
    add_disk(system, "floppy", floppy)
    blank = system.directory / "blank.img"
    blank.write_bytes(bytes(1 << 20))
    add_disk(system, "blank", blank)
    volumes = [{"name": "a", "image": "floppy", "device": "Floppy", "size": "1Mi"}]
    add_machine(system, "legacy", "blank", type="VM", virtualization="Legacy", volumes=volumes)
    says(system, "legacy", "booted from a floppy")
    system.remove_app("legacy")


class Asked(http.server.BaseHTTPRequestHandler):
    """What was asked for, of all."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_guest_gets_its_address_and_reaches_the_outside_by_the_node(system: System) -> None:
    server = http.server.HTTPServer(("127.0.0.1", system.private_port), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        add_disk(system, "ipxe", IPXE)
        outside = system.address.rpartition(".")[0] + ".1"
        where = f"http://{outside}:{system.private_port}/i-am-${{net0/ip}}"
        add_machine(
            *(system, "netboot", "ipxe"),
            type="Unikernel",
            command=["dhcp", "&&", "imgfetch", where],
            interfaces=[{"name": "eth0", "networkInstance": "apps"}],
        )
        eventually("it asks", lambda: Asked.paths, 90)
    finally:
        server.shutdown()
        server.server_close()
    assert Asked.paths[0].startswith("/i-am-10.9.0.")
    system.remove_app("netboot")


def test_a_machine_outlives_the_services_and_is_watched_again(system: System) -> None:
    add_machine(system, "kept", "unikernel", type="Unikernel", command=["say", "hello"])
    says(system, "kept", "hello")
    eventually("it is RUNNING", lambda: running(system, "kept"))
    before = machine_pid(system, "kept")
    service = system.node.pid("domains")
    kill(service)
    eventually("domains is back", lambda: system.node.pid("domains") not in (0, service))
    assert machine_pid(system, "kept") == before

    kill(before)
    eventually("it is known", lambda: system.troubles("kept"))
    assert "ended by signal SIGKILL" in system.troubles("kept")[0]["message"]
    assert not machine_pid(system, "kept")  # a machine that crashed waits for somebody
    system.edgevirt("restart", "kept")
    eventually("it runs again", lambda: running(system, "kept"), 60)
    assert machine_pid(system, "kept") not in (0, before)
    system.remove_app("kept")


def test_a_guest_heeds_the_power_button_when_its_app_is_stopped(system: System) -> None:
    add_machine(system, "polite", "unikernel", type="Unikernel")
    says(system, "polite", "ready")
    system.fleet.patch("AppInstance", "polite", {"activate": False})
    eventually("it ends soon", lambda: not machine_pid(system, "polite"), 20)
    eventually("it is HALTED", lambda: system.app_state("polite") == "HALTED")
    system.remove_app("polite")
