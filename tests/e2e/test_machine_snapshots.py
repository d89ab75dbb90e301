"""Snapshots of machines: disks of both forms, a container in a machine, variables and a TPM."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgevirt.client.resources import Object
from edgevirt.image.parts.guest import publish
from tests.e2e.machine_apps import UNTIL_THE_BUTTON, add_disk, add_machine, console, convert
from tests.e2e.system import System, eventually, read, whole_system
from tests.parts.uefi_disk import make_counting_uefi_disk
from tests.worlds.contained import guest_files

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(900)]

LONG = 300.0
"""Seconds: a guest that does not hear the power button has a minute, and all are emulated."""
PORT = 8087
COUNTING = ("raw", "qcow2", "measured")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Apps that count how often they were started: two on their own disk, one in a variable of its
    firmware, with a TPM; and a container in a machine."""
    publish(guest_files(), Path(sys.prefix) / "share/edgevirt/guest")
    with whole_system(tmp_path_factory.mktemp("machine-snapshots")) as made:
        disk = made.directory / "counting.raw"
        disk.write_bytes(counting_disk())
        add_disk(made, "raw", disk)
        add_disk(made, "qcow2", convert(disk, "qcow2"), "Qcow2")
        kept: dict[str, Any] = {"type": "VM", "snapshots": {"max": 2}}
        add_machine(made, "raw", "raw", **kept)
        add_machine(made, "qcow2", "qcow2", **kept)
        add_disk(made, "uefi", make_counting_uefi_disk(made.directory))
        more = {"firmware": "UEFI", "devices": [{"name": "tpm", "type": "TPM"}]}
        measured = {"cpu": 1, "memory": "128Mi"}
        add_machine(made, "measured", "uefi", **kept, **more, resources=measured)
        for version in ("one", "two"):
            made.push(f"boxed:{version}", marker=version)
            made.add_image(version, f"boxed:{version}")
        resources = {"cpu": 1, "memory": "128Mi"}
        boxed: dict[str, Any] = {"image": "one", "virtualization": "PV", "snapshots": {"max": 1}}
        made.add_app("boxed", port=PORT, resources=resources, **boxed)
        yield made


def counting_disk() -> bytes:
    """A disk that a BIOS boots: it counts in its first sector, and prints the count."""
    # xor ax,ax; mov ds,ax; mov es,ax; inc byte [0x7df0]; mov bx,0x7c00; mov ax,0x0301; mov cx,1;
    # mov dh,0; int 0x13 (writes the sector); mov si,0x7c60
    # next: lodsb; test al,al; jz number; mov dx,0x3f8; out dx,al; jmp next
    # number: mov al,[0x7df0]; add al,'0'; mov dx,0x3f8; out dx,al; the end of a line
    code = bytes.fromhex(
        "31c0 8ed8 8ec0 fe06f07d bb007c b80103 b90100 b600 cd13 be607c"
        "ac 84c0 7406 baf803 ee ebf5 a0f07d 0430 baf803 ee b00d ee b00a ee"
    )
    sector = (code + UNTIL_THE_BUTTON).ljust(0x60, b"\0") + b"start \0"
    return sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)


def starts(system: System, name: str) -> list[str]:
    """The counts that it printed, in order."""
    words = console(system, name).split()
    return [after for word, after in pairwise(words) if word == "start"]


def printed(system: System, name: str, *counts: str) -> None:
    eventually(f"{name} counts {counts}", lambda: starts(system, name) == [*counts], LONG, 1.0)


def snapshots(system: System, name: str) -> list[Object]:
    found: list[Object] = system.app(name).get("snapshots", [])
    return [one for one in found if one.get("version") and not one.get("message")]


def is_rolled_back(system: System, name: str) -> bool:
    return "rolled back to version 1; the App says 2" in system.app(name)["what"]


def ask(system: System, script: str, wanted: str) -> None:
    url = f"{system.url(PORT)}cgi-bin/run"
    eventually(f"{script}: {wanted}", lambda: read(url, script).strip() == wanted, LONG, 0.5)


def states(system: System) -> Path:
    return system.state / "persist/vault/data/machine-states"


def test_a_machine_is_kept_with_its_disk_and_what_it_has_besides(system: System) -> None:
    for name in COUNTING:
        printed(system, name, "1")
    for name in COUNTING:
        system.fleet.patch("App", name, {"resources": {"memory": "144Mi"}})
    for name in COUNTING:
        printed(system, name, "1", "2")
        eventually("its snapshot is told", partial(snapshots, system, name))
    (one,) = snapshots(system, "measured")
    assert list((states(system) / one["id"] / "tpm").glob("tpm2-*"))


def test_a_rollback_brings_the_disk_and_the_firmware_s_variables_of_then_back(
    system: System,
) -> None:
    for name in COUNTING:
        system.edgevirt("rollback", name, "--yes")
    for name in COUNTING:
        printed(system, name, "1", "2", "2")
        eventually("the fleet knows", partial(is_rolled_back, system, name))


def test_a_container_in_a_machine_goes_back_with_its_data(system: System) -> None:
    ask(system, "echo first >/data/visits; echo mine >/note; sync; echo done", "done")
    system.fleet.patch("App", "boxed", {"image": "two"})
    ask(system, "cat /etc/marker /data/visits /note 2>/dev/null", "twofirst")
    ask(system, "echo second >>/data/visits; sync; echo done", "done")
    system.edgevirt("rollback", "boxed", "--yes")
    ask(system, "cat /etc/marker /data/visits /note", "onefirst\nmine")


def test_what_is_kept_of_a_machine_goes_with_its_app(system: System) -> None:
    (one,) = snapshots(system, "measured")
    system.remove_app("measured")
    eventually("it is gone", lambda: not (states(system) / one["id"]).exists(), LONG)
