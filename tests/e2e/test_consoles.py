"""Consoles of apps through the fleet: a person's terminal here, a guest in a real QEMU there."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from tests.e2e.machine_apps import add_disk, add_machine, boot_sector, running, says
from tests.e2e.system import NODE, System, eventually, kill, whole_system
from tests.e2e.terminal import PATIENCE, terminal
from tests.guest_world import unikernel

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("consoles")) as made:
        kernel = made.directory / "kernel"
        kernel.write_bytes(unikernel())
        add_disk(made, "unikernel", kernel)
        add_machine(made, "guest", "unikernel", type="Unikernel", command=["run"])
        disk = made.directory / "boot.raw"
        disk.write_bytes(boot_sector("booted"))
        add_disk(made, "disk", disk)
        add_machine(made, "screen", "disk", type="VM")
        says(made, "guest", "ready")
        eventually("both run", lambda: running(made, "guest") and running(made, "screen"))
        yield made


def test_what_is_typed_reaches_the_guest_and_ctrl_bracket_ends_it(system: System) -> None:
    with terminal(system, "console", "guest") as typist:
        typist.shows(f"at the console of guest on {NODE}")
        typist.type("ping\r")
        typist.shows("pong")
        typist.type("\x1d")
        assert typist.process.wait(PATIENCE) == 0
    says(system, "guest", "pong")  # in the log as well
    told = system.edgevirt("events", "--for", "appinstance/guest")
    assert "admin opened the serial console" in told
    assert "admin had the serial console for" in told


def test_a_second_one_is_told_who_is_there(system: System) -> None:
    with terminal(system, "console", "guest") as first:
        first.shows("waiting for")
        done = system.command("console", "guest")
        assert done.returncode == 1
        assert "admin has it open" in done.stderr
        assert "--take-over" in done.stderr


def test_a_screen_comes_through_the_fleet_and_the_node_opens_no_port(system: System) -> None:
    with terminal(system, "vnc", "screen", "--port", "0") as viewer:
        viewer.shows("such as: vncviewer")
        (port,) = re.findall(r"is at 127\.0\.0\.1:(\d+)", viewer.shown)
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as seen:
            assert seen.recv(12) == b"RFB 003.008\n"
            seen.sendall(b"RFB 003.008\n")
            assert seen.recv(2) == b"\x01\x01"  # nobody else is asked: the fleet let us in
        assert viewer.process.wait(PATIENCE) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((system.address, 5900), 5)


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


def test_a_screen_at_the_node_asks_for_the_secret_s_password(system: System) -> None:
    secret = {"stringData": {"password": "opensesame"}}
    system.fleet.create("Secret", "screen", {}, **secret)
    vnc = {"display": 3, "passwordSecretRef": {"name": "screen"}}
    system.fleet.patch("App", "screen", {"vnc": vnc})
    system.fleet.patch("EdgeNode", NODE, {"properties": {"app.allow.vnc": "true"}})
    eventually("its port is open", lambda: is_open(system.address, 5903))
    assert lets_in(system.address, 5903, "opensesame")
    assert not lets_in(system.address, 5903, "wrong")
    kept = b"".join(
        path.read_bytes() for path in (system.state / "persist").rglob("*") if path.is_file()
    )
    assert b"opensesame" not in kept, "it is on no disk"
    system.edgevirt("patch", "secret/screen", "-p", '{"stringData": {"password": "changed!"}}')
    eventually("another one counts", lambda: lets_in(system.address, 5903, "changed!"))
    assert not lets_in(system.address, 5903, "opensesame")
    with terminal(system, "vnc", "screen", "--port", "0") as viewer:
        viewer.shows("such as: vncviewer")
    system.fleet.patch("EdgeNode", NODE, {"properties": {"app.allow.vnc": "false"}})
    eventually("its port is closed", lambda: not is_open(system.address, 5903))


def test_the_console_is_there_again_when_the_node_s_service_is(system: System) -> None:
    with terminal(system, "console", "guest") as typist:
        typist.shows("at the console")
        before = system.node.pid("access")
        kill(before)
        typist.shows("the node's end of the session is gone")
        assert typist.process.wait(PATIENCE) == 1
    eventually("access is back", lambda: system.node.pid("access") not in (0, before))
    with terminal(system, "console", "guest") as typist:
        typist.shows("at the console")
        typist.type("\x1d")
        assert typist.process.wait(PATIENCE) == 0
