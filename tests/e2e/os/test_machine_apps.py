"""Machines on the booted operating system: all that they need is in the image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.machine_apps import add_disk, add_machine, console, running, says
from tests.e2e.os.os_system import OsSystem, os_system
from tests.e2e.system import read
from tests.worlds.guest import unikernel

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

EMULATED = 600.0
"""Seconds for a guest within a guest."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OsSystem]:
    """Its processor has virtualization of its own, where ours can emulate that."""
    directory = tmp_path_factory.mktemp("machine-apps")
    kernel = directory / "kernel"
    kernel.write_bytes(unikernel())
    with os_system(directory / "system", memory=2048, cpu="max,+svm") as made:
        made.push("probe:1.0")
        made.add_image("probe", "probe:1.0")
        add_disk(made, "unikernel", kernel)
        made.lay_disk()
        made.power_on()
        made.online(EMULATED)
        yield made


def test_the_system_s_own_qemu_runs_a_unikernel(system: OsSystem) -> None:
    add_machine(system, "within", "unikernel", type="Unikernel", command=["say", "deep"])
    system.eventually("it runs", lambda: running(system, "within"), EMULATED)
    says(system, "within", "deep", EMULATED)
    # the image loads what its processor has, and a guest really starts by it
    assert system.node_status()["virtualization"] == "Hardware"
    system.remove_app("within")


def test_a_container_that_says_nothing_has_a_machine_of_its_own_there_too(
    system: OsSystem,
) -> None:
    port = system.add_app(
        "walled",
        port=system.ports[0],
        virtualization="",
        resources={"cpu": 1, "memory": "128Mi"},
    )
    url = system.url(port)
    system.eventually("it answers", lambda: read(url), EMULATED)
    said = read(f"{url}cgi-bin/run", "cat /proc/version; ls /sys/block")
    assert "cloud" in said  # its own kernel's name, not the node's
    assert "vda" in said
    system.eventually("its words are kept", lambda: console(system, "walled"), EMULATED)
    assert system.app("walled")["runsAs"].startswith("container in a vm")
