"""Virtual machines with a real Linux in them, by BIOS and UEFI: what an operator does with them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.guest_disk import make_guest_disk
from tests.e2e.machine_apps import add_disk, add_machine, console, convert, machine_pid, says
from tests.e2e.system import NODE, System, eventually, whole_system

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

BOOT = 400.0
"""Seconds; emulated on a quiet machine some 25."""
SERVE = """#!/bin/sh
ifconfig eth0 up
udhcpc -q -n -i eth0 -s /etc/dhcp
mkdir -p /run/data && mount -t ext4 /dev/vdb /run/data
echo start >> /run/data/starts
sync
echo "guest: start $(wc -l < /run/data/starts)"
mkdir -p /run/www && echo "hello from a guest" > /run/www/index.html
httpd -h /run/www -p 80
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_guest_disk(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("guests")) as made:
        add_disk(made, "by-bios", convert(disk, "qcow2"), "Qcow2")
        add_disk(made, "by-uefi", convert(disk, "vmdk"), "VMDK")
        yield made


def answers(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as found:
            return str(found.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def test_a_linux_does_what_its_user_data_says_and_keeps_its_data(system: System) -> None:
    ports = [{"protocol": "TCP", "nodePort": 9400, "appPort": 80}]
    add_machine(
        *(system, "server", "by-bios"),
        type="VM",
        resources={"cpu": 1, "memory": "384Mi"},
        userData=SERVE,
        volumes=[{"name": "data", "size": "16Mi"}],
        interfaces=[{"name": "eth0", "networkInstance": "apps", "ports": ports}],
    )
    says(system, "server", "guest: up by BIOS", BOOT)
    says(system, "server", "guest: start 1", 120)
    assert '"local-hostname"' in console(system, "server")
    url = system.url(9400)
    found = eventually("it answers", lambda: answers(url), 120, 1.0)
    assert found == "hello from a guest\n"

    system.fleet.patch("AppInstance", "server", {"activate": False})
    eventually("it is HALTED", lambda: system.app_state("server") == "HALTED", 50)
    says(system, "server", "guest: the button")
    system.fleet.patch("AppInstance", "server", {"activate": True})
    says(system, "server", "guest: start 2", BOOT)
    system.remove_app("server")


def test_the_catalog_s_debian_is_made_what_its_manifest_says(system: System, disk: Path) -> None:
    """With another system on its disk, which reads no more of it than where its data go."""
    url = f"docker://registry.local:{system.registry_port}"
    system.fleet.create("Datastore", "local-registry", {"type": "OCIRegistry", "url": url})
    layout = str(system.directory / "debian-layout")
    system.edgevirt("eci", "build", str(convert(disk, "qcow2")), "-o", layout)
    system.edgevirt("eci", "push", layout, f"{system.registry.host}/debian:12")
    system.edgevirt("apply", "-f", str(EXAMPLES / "debian/app.yaml"))
    system.fleet.create("AppInstance", "debian", {"app": "debian", "edgeNode": NODE})
    says(system, "debian", "guest: up by UEFI", BOOT)
    says(system, "debian", "guest: told", 60)
    says(system, "debian", "hostname: gateway", 60)
    system.remove_app("debian")


def test_a_vmdk_boots_by_uefi_and_its_variables_are_the_vault_s(system: System) -> None:
    add_machine(
        *(system, "modern", "by-uefi"),
        type="VM",
        firmware="UEFI",
        resources={"cpu": 1, "memory": "384Mi"},
    )
    says(system, "modern", "guest: up by UEFI", BOOT)
    says(system, "modern", "guest: ready", 60)
    kept = list((system.state / "persist").rglob(f"{system.app_id('modern')}.fd"))
    assert [path.parent.name for path in kept] == ["firmware"]
    assert "vault" in kept[0].parts
    process = Path(f"/proc/{machine_pid(system, 'modern')}")
    system.remove_app("modern")
    eventually("its QEMU ends", lambda: not process.exists(), 90)
    eventually("they go with the app", lambda: not kept[0].exists(), 60)
