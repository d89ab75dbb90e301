"""Virtual machines and unikernels on a whole system: real disks, a real network, real QEMUs."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.e2e.machine_apps import (
    add_disk,
    add_machine,
    boot_sector,
    convert,
    machine_pid,
    running,
    says,
)
from tests.e2e.system import NODE, System, eventually, kill, whole_system
from tests.guest_world import unikernel

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]

IPXE = Path("/boot/ipxe.lkrn")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("machines")) as made:
        kernel = made.directory / "kernel"
        kernel.write_bytes(unikernel())
        add_disk(made, "unikernel", kernel)
        yield made


def test_a_virtual_machine_boots_from_a_qcow2_and_what_it_prints_is_kept(system: System) -> None:
    raw = system.directory / "boot.raw"
    raw.write_bytes(boot_sector("booted from its disk"))
    add_disk(system, "disk", convert(raw, "qcow2"), "Qcow2")
    add_machine(system, "machine", "disk", type="VM", userData="#cloud-config\n")
    says(system, "machine", "booted from its disk")
    assert running(system, "machine")
    status = system.fleet.status("EdgeNode", NODE)
    assert status["virtualization"] in ("Hardware", "Emulated")


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


def test_a_guest_that_powers_itself_off_is_started_again_after_the_boot_retry(
    system: System,
) -> None:
    system.fleet.patch("EdgeNode", NODE, {"properties": {"timer.boot.retry": "10"}})
    add_machine(system, "sleepy", "unikernel", type="Unikernel", command=["exit"])
    (trouble,) = eventually("its end is told", lambda: system.troubles("sleepy"), 60)
    assert "the guest powered itself off" in trouble["message"]
    assert "retryAt" in trouble
    started = eventually("it starts again", lambda: system.app("sleepy").get("restarts", 0) > 1, 60)
    assert started
    system.remove_app("sleepy")


def test_a_guest_that_panics_stays_down_until_somebody_restarts_it(system: System) -> None:
    add_machine(system, "panicky", "unikernel", type="Unikernel", command=["panic"])
    (trouble,) = eventually("its end is told", lambda: system.troubles("panicky"), 60)
    assert "retryAt" not in trouble
    assert trouble["hint"] == "restart the app to try again"
    assert not machine_pid(system, "panicky")
    system.remove_app("panicky")
