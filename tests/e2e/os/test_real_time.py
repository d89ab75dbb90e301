"""An app that has a processor for itself, on the booted operating system: nothing else is on it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.machine_apps import running, says
from tests.e2e.os.os_system import BOOT, OsSystem, os_system
from tests.e2e.system import NODE

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

EXAMPLES = Path(__file__).parents[3] / "examples"
EMULATED = 600.0
"""Seconds for a guest within a guest."""


def allowed(system: OsSystem, port: int) -> str:
    """The processors that an app's processes may run on."""
    return system.run(port, "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status").strip()


def test_a_real_time_app_has_its_processor_alone_until_it_ends(tmp_path: Path) -> None:
    """Also a virtual machine: the catalog's, whose guest tells how late it was woken."""
    with os_system(tmp_path / "system", cpus=2, memory=2048) as system:
        system.push("probe:1.0")
        system.add_image("probe", "probe:1.0")
        system.lay_disk()
        system.power_on()
        shared = system.add_app("shared", port=system.ports[0])
        alone = {"cpu": 1, "memory": "64Mi", "realTime": True}
        own = system.add_app("alone", port=system.ports[1], resources=alone)
        system.online()
        for port in (shared, own):
            system.eventually("it answers", lambda port=port: system.starts(port) > 0, BOOT)
        assert allowed(system, own) == "1"
        assert allowed(system, shared) == "0"

        _add_guest(system, tmp_path)
        why = "cannot start: it needs 1 processor of its own, 0 of 1 are free: others are held by"
        system.eventually(
            "the guest is told who has it",
            lambda: any(why in trouble["message"] for trouble in system.troubles("real-time")),
            EMULATED,
        )
        system.remove_app("alone")
        system.eventually("the guest starts", lambda: running(system, "real-time"), EMULATED)
        assert allowed(system, shared) == "0"
        says(system, "real-time", "PREEMPT_RT", EMULATED)
        says(system, "real-time", "worst of 1000 wakings", EMULATED)
        system.remove_app("real-time")
        system.eventually("it is given back", lambda: allowed(system, shared) == "0-1", BOOT)


def _add_guest(system: OsSystem, directory: Path) -> None:
    source = directory / "real-time"
    shutil.copytree(EXAMPLES / "real-time", source)
    subprocess.run(["make", "-s", "-C", source], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(source / "parts")
    url = f"docker://registry.local:{system.registry_port}"
    system.fleet.create("Datastore", "local-registry", {"type": "OCIRegistry", "url": url})
    layout = str(directory / "layout")
    system.edgevirt("eci", "build", str(source), "-o", layout)
    system.edgevirt("eci", "push", layout, f"{system.registry.host}/real-time:1")
    system.edgevirt("apply", "-f", str(EXAMPLES / "real-time/app.yaml"))
    system.fleet.create("AppInstance", "real-time", {"app": "real-time", "edgeNode": NODE})
