"""An app that has a processor for itself, on the booted operating system: nothing else is on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.os.os_system import BOOT, OsSystem, os_system

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def allowed(system: OsSystem, port: int) -> str:
    """The processors that an app's processes may run on."""
    return system.run(port, "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status").strip()


def test_a_real_time_app_has_its_processor_alone_until_it_ends(tmp_path: Path) -> None:
    with os_system(tmp_path / "system", cpus=2) as system:
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

        system.add_app("second", port=system.ports[2], resources=alone)
        why = "cannot start: it needs 1 processor of its own, 0 of 1 are free: others are held by"
        system.eventually(
            "the second is told who has it",
            lambda: any(why in trouble["why"] for trouble in system.troubles("second")),
            BOOT,
        )
        system.remove_app("alone")
        system.eventually("the second starts", lambda: system.starts(system.ports[2]) > 0, BOOT)
        system.remove_app("second")
        system.eventually("it is given back", lambda: allowed(system, shared) == "0-1", BOOT)
