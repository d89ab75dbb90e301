"""Apps that are machines, as tests want them: their disks, what they print, their processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
from pathlib import Path
from typing import Any

from edgevirt.client.errors import Refused
from edgevirt.image.eci.oci import Layer, Pusher, make_image
from edgevirt.model.content import ImageConfig
from edgevirt.model.ids import Digest
from tests.e2e.system import NODE, System, eventually

MEMORY = "64Mi"


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
    """What `edgevirt logs` shows: asked for here, as tests do it while they wait."""
    client = system.fleet.client
    path = client.type_of("appinstances").path("default", name, "log")
    with contextlib.suppress(Refused):
        return "".join(f"{line}\n" for line in client.lines(path, follow=False))
    return ""


def says(system: System, name: str, text: str, seconds: float = 60) -> None:
    eventually(f"{name} says {text}", lambda: text in console(system, name), seconds, 0.2)


def machine_pid(system: System, name: str) -> int:
    """Of the app's QEMU; 0 while there is none."""
    wanted = system.app_id(name)
    for pid in system.pids("qemu-system-x86"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if wanted in Path(f"/proc/{pid}/cgroup").read_text():
                return pid
    return 0


def running(system: System, name: str) -> bool:
    return system.app_state(name) == "RUNNING"


# mov dx,0x602; mov ax,0x100; out dx,ax (the button is to be told of)
# wait: sti; hlt; mov dx,0x600; in ax,dx; test ah,1; jz wait (was it pressed?)
# mov dx,0x604; mov ax,0x2000; out dx,ax; jmp wait (off)
UNTIL_THE_BUTTON = bytes.fromhex(
    "ba0206 b80001 ef fb f4 ba0006 ed f6c401 74f5 ba0406 b80020 ef ebec"
)
"""Code of a boot sector: rests until the power button is pressed, and powers off."""


def boot_sector(text: str) -> bytes:
    """A disk that prints a text on the serial line when a BIOS boots it, then waits."""
    # xor ax,ax; mov ds,ax; mov si,0x7c40; next: lodsb; test al,al; jz end; mov dx,0x3f8; out dx,al
    # jmp next; end:
    code = bytes.fromhex("31c0 8ed8 be407c ac 84c0 7406 baf803 ee ebf5") + UNTIL_THE_BUTTON
    sector = code.ljust(0x40, b"\0") + text.encode() + b"\r\n\0"
    return sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)


def convert(raw: Path, format: str) -> Path:
    """The disk in another format, as qemu-img calls it."""
    disk = raw.with_suffix(f".{format}")
    command = ["qemu-img", "convert", "-f", "raw", "-O", format, str(raw), str(disk)]
    subprocess.run(command, check=True)
    return disk
