"""Consoles of apps through the fleet: a person's terminal here, a guest in a real QEMU there."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

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
