"""A booted node's way to its controller: real DHCP, DNS and TLS at the other end of a real cable.

The service runs under its supervisor with the rights of its row, and nothing beside it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgevirt.host.cgroup import Cgroup
from edgevirt.model.ports import PortSource, Reach
from tests.e2e.speaking_agent import GOOD, MARK, OTHER_SITE, Outcome
from tests.e2e.test_console import server
from tests.parts.authority import make_authority
from tests.parts.host_node import ENVIRONMENT, HOME, eventually
from tests.parts.netlab import OUTSIDE_ADDRESS, Lab, addresses, interfaces, netlink, open_lab

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]

PROGRAM = Path(__file__).with_name("run_ports.py")
LEASED = "192.0.2.77"


@contextlib.contextmanager
def dhcp_and_dns(lab: Lab) -> Iterator[None]:
    command = [
        *("dnsmasq", "-k", "--bind-interfaces", "--interface=eth0", "--except-interface=lo"),
        *("--no-resolv", "--no-hosts", f"--address=/controller.test/{OUTSIDE_ADDRESS}"),
        *(f"--dhcp-range={LEASED},{LEASED},10m", "--no-ping", "--dhcp-authoritative"),
        *(f"--dhcp-leasefile={lab.directory}/dhcp", "--pid-file=", "--log-facility=-"),
    ]
    with lab.beyond():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def service(lab: Lab) -> Iterator[Path]:
    """Where its files are, as seen from outside."""
    group = f"edgevirt-test-ports-{os.getpid()}"
    command = [sys.executable, str(PROGRAM), str(lab.directory), group]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    try:
        yield Path(f"/proc/{process.pid}/root/{HOME}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            Cgroup(group).remove()


@pytest.fixture
def home() -> Iterator[Path]:
    with contextlib.ExitStack() as undo:
        lab = undo.enter_context(open_lab())
        authority = make_authority(lab.directory, names=("controller.test",))
        index = interfaces()["eth0"]
        netlink(lambda route: route.flush_addr(index=index))
        undo.enter_context(dhcp_and_dns(lab))
        with lab.beyond():
            port = undo.enter_context(server(authority, OUTSIDE_ADDRESS))
        config = lab.directory / "config"
        config.mkdir()
        (config / "server").write_text(f"controller.test:{port}\n")
        (config / "root-certificate.pem").write_bytes(authority.ca.read_bytes())
        yield undo.enter_context(service(lab))


def outcomes(home: Path) -> list[Outcome]:
    """What the agent said."""
    try:
        lines = (home / "run/logs/agent.log").read_text(errors="replace").splitlines()
    except OSError:
        return []
    said = (line.partition(MARK)[2] for line in lines if MARK in line)
    return [msgspec.json.decode(text, type=Outcome) for text in said]


def test_whatever_the_controller_sends_the_node_can_be_reached_afterwards(home: Path) -> None:
    eventually(lambda: len(outcomes(home)) == 3, "three port configs are tried", 120.0)
    first, good, back = outcomes(home)
    assert (first.status.source, first.status.index) == (PortSource.LAST_RESORT, 0)
    assert first.status.ports[0].addresses[0] == f"{LEASED}/24"
    assert f"nameserver {OUTSIDE_ADDRESS}\n" in (home / "etc/resolv.conf").read_text()

    assert good.status.ports[0].addresses[0] == GOOD.address

    assert back.status.index == 1
    assert back.status.ports[0].addresses[0] == GOOD.address
    assert back.status.ports[0].reach is Reach.OK
    failed = back.configs.entries[0]
    assert failed.config.ports == (OTHER_SITE,)
    assert failed.last_error.startswith("cannot reach the controller: wan: ")
    assert addresses("eth0") == {"192.0.2.9"}
