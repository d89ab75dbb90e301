"""Virtual machines, unikernels and their consoles on a whole system: real disks, real QEMUs."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from edgevirt.host.volumes.image import BadDiskImage, read_disk_image
from edgevirt.model.content import ContentFormat
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
from tests.e2e.terminal import PATIENCE, terminal
from tests.worlds.guest import unikernel

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(400)]

IPXE = Path("/boot/ipxe.lkrn")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("machines")) as made:
        kernel = made.directory / "kernel"
        kernel.write_bytes(unikernel())
        add_disk(made, "unikernel", kernel)
        add_disk(made, "ipxe", IPXE)
        yield made


def test_a_virtual_machine_boots_from_a_qcow2_and_what_it_prints_is_kept(system: System) -> None:
    raw = system.directory / "boot.raw"
    raw.write_bytes(boot_sector("booted from its disk"))
    add_disk(system, "disk", convert(raw, "qcow2"), "Qcow2")
    add_machine(system, "machine", "disk", type="VM", userData="#cloud-config\n")
    says(system, "machine", "booted from its disk")
    assert running(system, "machine")
    virtualization = eventually(
        "the node has found out",
        lambda: system.fleet.status("EdgeNode", NODE).get("virtualization"),
    )
    assert virtualization in ("Hardware", "Emulated")


def kept_sizes(system: System) -> set[int]:
    """Bytes that the node's volumes have as disks, by their headers."""
    volumes = (system.directory / "node").rglob("volumes/*#*")
    found = set()
    for path in volumes:
        with contextlib.suppress(BadDiskImage, OSError):
            found.add(read_disk_image(path, ContentFormat.QCOW2).virtual_size)
    return found


def test_its_disk_grows_while_it_runs_and_while_it_does_not(system: System) -> None:
    before = machine_pid(system, "machine")
    system.fleet.patch("App", "machine", {"resources": {"disk": "48Mi"}})
    eventually("it has grown", lambda: 48 << 20 in kept_sizes(system))
    assert machine_pid(system, "machine") == before
    assert running(system, "machine")

    system.fleet.patch("AppInstance", "machine", {"activate": False})
    eventually("it has ended", lambda: not machine_pid(system, "machine"))
    system.fleet.patch("App", "machine", {"resources": {"disk": "80Mi"}})
    eventually("it has grown", lambda: 80 << 20 in kept_sizes(system))
    system.fleet.patch("App", "machine", {"resources": {"disk": "60Mi"}})
    why = "cannot make volume machine-root smaller: it has 80 MiB, the config says 60 MiB"
    eventually("it is told", lambda: why in str(system.app("machine").get("volumes")))
    system.fleet.patch("AppInstance", "machine", {"activate": True})
    eventually("it runs again", lambda: running(system, "machine"))
    system.remove_app("machine")


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


@contextlib.contextmanager
def asked(system: System) -> Iterator[str]:
    """A server outside, as guests call it."""
    server = http.server.HTTPServer(("127.0.0.1", system.private_port), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{system.address.rpartition('.')[0]}.1:{system.private_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_guest_gets_its_address_and_reaches_the_outside_by_the_node(system: System) -> None:
    with asked(system) as outside:
        add_machine(
            *(system, "netboot", "ipxe"),
            type="Unikernel",
            command=["dhcp", "&&", "imgfetch", f"{outside}/i-am-${{net0/ip}}"],
            interfaces=[{"name": "eth0", "networkInstance": "apps"}],
        )
        eventually("it asks", lambda: Asked.paths, 90)
    assert Asked.paths[0].startswith("/i-am-10.9.0.")
    system.remove_app("netboot")


def test_a_guest_finds_its_interfaces_in_the_order_that_its_app_says(system: System) -> None:
    """iPXE, too, counts its cards by their places on the bus."""
    macs = {
        name: f"02:16:3e:00:0a:0{index}" for index, name in enumerate(("first", "middle", "last"))
    }
    interfaces = [
        {"name": name, "networkInstance": "apps", "mac": macs[name]}
        for name in ("last", "first", "middle")
    ]
    say = "/".join(f"${{net{index}/mac:hexhyp}}" for index in range(3))
    with asked(system) as outside:
        add_machine(
            *(system, "ordered", "ipxe"),
            type="Unikernel",
            command=["dhcp", "net0", "&&", "imgfetch", f"{outside}/{say}"],
            interfaces=interfaces,
            interfaceOrder=["first", "middle"],
        )
        saw = eventually("it asks", lambda: [one for one in Asked.paths if "02-16" in one], 90)
    wanted = "/".join(macs[name] for name in ("first", "middle", "last")).replace(":", "-")
    assert saw[0] == f"/{wanted}"
    system.remove_app("ordered")


def test_a_multiboot_kernel_answers_over_its_console(system: System) -> None:
    kernel = system.directory / "multiboot"
    kernel.write_bytes(unikernel("multiboot"))
    add_disk(system, "multiboot", kernel)
    command = ["say", "by", "multiboot"]
    add_machine(system, "multiboot", "multiboot", type="Unikernel", command=command)
    says(system, "multiboot", "by multiboot")
    eventually("it is RUNNING", lambda: running(system, "multiboot"))
    with terminal(system, "console", "multiboot") as typist:
        typist.shows("at the console")
        typist.type("ping\r")
        typist.shows("pong")
    system.fleet.patch("AppInstance", "multiboot", {"activate": False})
    eventually("it heeds the button", lambda: not machine_pid(system, "multiboot"), 20)
    system.remove_app("multiboot")


@pytest.mark.parametrize("form", ["kernel", "multiboot"])
def test_a_kernel_finds_its_ram_disk(system: System, form: str) -> None:
    made = {name: system.directory / f"{form}-{name}" for name in ("image", "ramdisk")}
    made["image"].write_bytes(unikernel(form))
    made["ramdisk"].write_text(f"from the RAM disk of a {form}\r\n")
    for name, path in made.items():
        add_disk(system, f"{form}-{name}", path)
    add_machine(
        *(system, f"read-{form}", f"{form}-image"),
        type="Unikernel",
        command=["read"],
        ramdisk=f"{form}-ramdisk",
    )
    says(system, f"read-{form}", f"from the RAM disk of a {form}")
    system.remove_app(f"read-{form}")


def test_a_kernel_that_no_machine_starts_is_refused_before_one_does(system: System) -> None:
    paths = {name: system.directory / name for name in ("program", "packed", "firmware")}
    paths["program"].write_bytes(Path("/bin/true").read_bytes())
    paths["packed"].write_bytes(gzip.compress(unikernel()) + bytes(4096))
    paths["firmware"].write_bytes(Path("/boot/ipxe.efi").read_bytes())
    reasons = {
        "program": "an ELF file with neither a multiboot header nor a note",
        "packed": "none that a machine starts",
        "firmware": "its kernel starts by EFI, and its machine has a BIOS",
    }
    for name, path in paths.items():
        add_disk(system, name, path)
        add_machine(system, name, name, type="Unikernel")
    for name, reason in reasons.items():
        asks = functools.partial(system.troubles, name)
        [trouble] = eventually("it is told", asks, 60, 0.2)
        assert trouble["message"].startswith("cannot run: its kernel")
        assert reason in trouble["message"]
        assert not machine_pid(system, name)
        system.remove_app(name)


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


# -- consoles: a person's terminal here, a guest there --


@pytest.fixture(scope="module")
def people(system: System) -> System:
    """With two apps to look at."""
    add_machine(system, "guest", "unikernel", type="Unikernel", command=["run"])
    disk = system.directory / "screen.raw"
    disk.write_bytes(boot_sector("booted"))
    add_disk(system, "screen", disk)
    add_machine(system, "screen", "screen", type="VM")
    says(system, "guest", "ready")
    eventually("both run", lambda: running(system, "guest") and running(system, "screen"))
    return system


def test_what_is_typed_reaches_the_guest_and_ctrl_bracket_ends_it(people: System) -> None:
    with terminal(people, "console", "guest") as typist:
        typist.shows(f"at the console of guest on {NODE}")
        typist.type("ping\r")
        typist.shows("pong")
        typist.type("\x1d")
        assert typist.process.wait(PATIENCE) == 0
    says(people, "guest", "pong")  # in the log as well
    told = people.edgevirt("events", "--for", "appinstance/guest")
    assert "admin opened the serial console" in told
    assert "admin had the serial console for" in told


def test_a_second_one_is_told_who_is_there(people: System) -> None:
    with terminal(people, "console", "guest") as first:
        first.shows("waiting for")
        done = people.command("console", "guest")
        assert done.returncode == 1
        assert "admin has it open" in done.stderr
        assert "--take-over" in done.stderr


def test_a_screen_comes_through_the_fleet_and_the_node_opens_no_port(people: System) -> None:
    with terminal(people, "vnc", "screen", "--port", "0") as viewer:
        viewer.shows("such as: vncviewer")
        (port,) = re.findall(r"is at 127\.0\.0\.1:(\d+)", viewer.shown)
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as seen:
            assert seen.recv(12) == b"RFB 003.008\n"
            seen.sendall(b"RFB 003.008\n")
            assert seen.recv(2) == b"\x01\x01"  # nobody else is asked: the fleet let us in
        assert viewer.process.wait(PATIENCE) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((people.address, 5900), 5)


def answer_to(challenge: bytes, password: str) -> bytes:
    """As VNC has it: DES, with each byte of the key the other way around."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    made = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
    return made.update(challenge) + made.finalize()


def lets_in(address: str, port: int, password: str) -> bool:
    """Whether a viewer with this password sees the screen."""
    with socket.create_connection((address, port), PATIENCE) as seen:
        assert seen.recv(12) == b"RFB 003.008\n"
        seen.sendall(b"RFB 003.008\n")
        assert seen.recv(2) == b"\x01\x02"  # a password, and nothing but
        seen.sendall(b"\x02")
        seen.sendall(answer_to(seen.recv(16, socket.MSG_WAITALL), password))
        return seen.recv(4, socket.MSG_WAITALL) == bytes(4)


def is_open(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
        return True
    return False


def test_a_screen_at_the_node_asks_for_the_secret_s_password(people: System) -> None:
    secret = {"stringData": {"password": "opensesame"}}
    people.fleet.create("Secret", "screen", {}, **secret)
    vnc = {"display": 3, "passwordSecretRef": {"name": "screen"}}
    people.fleet.patch("App", "screen", {"vnc": vnc})
    people.fleet.patch("EdgeNode", NODE, {"properties": {"app.allow.vnc": "true"}})
    eventually("its port is open", lambda: is_open(people.address, 5903))
    assert lets_in(people.address, 5903, "opensesame")
    assert not lets_in(people.address, 5903, "wrong")
    assert people.holds(b"opensesame") == []
    people.edgevirt("patch", "secret/screen", "-p", '{"stringData": {"password": "changed!"}}')
    eventually("another one counts", lambda: lets_in(people.address, 5903, "changed!"))
    assert not lets_in(people.address, 5903, "opensesame")
    with terminal(people, "vnc", "screen", "--port", "0") as viewer:
        viewer.shows("such as: vncviewer")
    people.fleet.patch("EdgeNode", NODE, {"properties": {"app.allow.vnc": "false"}})
    eventually("its port is closed", lambda: not is_open(people.address, 5903))


def test_the_console_is_there_again_when_the_node_s_service_is(people: System) -> None:
    with terminal(people, "console", "guest") as typist:
        typist.shows("at the console")
        before = people.node.pid("access")
        kill(before)
        typist.shows("the node's end of the session is gone")
        assert typist.process.wait(PATIENCE) == 1
    eventually("access is back", lambda: people.node.pid("access") not in (0, before))
    with terminal(people, "console", "guest") as typist:
        typist.shows("at the console")
        typist.type("\x1d")
        assert typist.process.wait(PATIENCE) == 0
