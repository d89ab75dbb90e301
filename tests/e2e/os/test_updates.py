"""A node in the field is updated: to a version that works, to four that do not, and while somebody
pulls its plug. It always comes back, and its app with it.

One machine lives through all of it, in the order of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.os.os_system import BOOT, OsSystem, file_server, os_system
from tests.e2e.os.variants import Variant, Workshop, hangs, no_services, panics, unreachable
from tests.e2e.system import NODE

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(900)]

UPDATE = 600.0
"""Seconds for a whole update, emulated: fetch, write, boot, test. Some 150 on a quiet machine."""


@dataclass
class Field:
    """A node in the field, with an app that has data, and versions that it can be sent."""

    system: OsSystem
    workshop: Workshop
    port: int = 0
    made: dict[str, Variant] = field(default_factory=dict)

    def offer(self, name: str, change: Callable[[Path], None] = lambda tree: None) -> Variant:
        """An OSImage of that name, made once."""
        if name not in self.made:
            variant = self.made[name] = self.workshop.make(name, change)
            spec = {
                "version": variant.version,
                "datastoreRefs": [{"name": "os-images"}],
                "reference": variant.file,
                "sha256": variant.sha256,
                "maxSize": "400Mi",
                "measurements": variant.measurements,
            }
            self.system.fleet.create("OSImage", name, spec)
        return self.made[name]

    def want(self, name: str, retry: int = 0) -> None:
        wanted = {"os": {"image": name, "retryCounter": retry}}
        self.system.fleet.patch("EdgeNode", NODE, wanted)

    def step(self, name: str) -> str:
        """How far the node is with that version; empty while it speaks of another."""
        told = self.system.os()
        wanted: str = told.get("step", "")
        return wanted if told.get("version") == self.made[name].version else ""

    def becomes(self, name: str, *steps: str, seconds: float = UPDATE) -> str:
        found: str = self.system.eventually(
            f"{name} becomes {steps}",
            lambda: (step := self.step(name)) in steps and step,
            seconds,
        )
        return found

    def running(self) -> str:
        [version] = [s["version"] for s in self.system.os()["slots"] if s.get("running")]
        return str(version)

    def app_is_back(self) -> None:
        """With the data that it had: its volume counts its starts."""
        self.system.eventually("the app answers", lambda: self.system.starts(self.port) > 0, BOOT)

    def other_label(self) -> str:
        [label] = [s["label"] for s in self.system.os()["slots"] if not s.get("running")]
        return str(label)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    directory = tmp_path_factory.mktemp("updates")
    workshop = Workshop(directory / "served", directory / "scratch")
    with file_server(workshop.directory) as port, os_system(directory) as system:
        url = f"http://fleet.local:{port}"
        system.fleet.create("Datastore", "os-images", {"type": "HTTP", "url": url})
        system.push("probe:1.0")
        system.add_image("probe", "probe:1.0")
        system.lay_disk()
        system.power_on()
        made = Field(system, workshop)
        made.port = system.add_app("probe", port=system.ports[0])
        system.online()
        made.app_is_back()
        yield made


def test_a_good_version_is_installed_tested_and_stays(node: Field) -> None:
    before = node.running()
    node.offer("good")
    node.want("good")
    assert node.becomes("good", "Testing") == "Testing"
    assert node.running() == node.made["good"].version
    node.becomes("good", "Updated")
    states = {version: state for state, version in node.system.slots().values()}
    assert states == {node.made["good"].version: "active", before: "unused"}
    node.app_is_back()
    assert node.system.starts(node.port) >= 2, "its data is gone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("panics", panics, "panic"),
        ("mute", no_services, "cannot"),
        ("unreachable", unreachable, "controller"),
        ("hangs", hangs, "watchdog"),
    ],
)
def test_a_bad_version_is_left_again_with_its_reason_and_not_tried_twice(
    node: Field, name: str, change: Callable[[Path], None], reason: str
) -> None:
    before = node.running()
    node.offer(name, change)
    node.want(name)
    node.becomes(name, "FellBack")
    assert node.running() == before
    phase = node.system.os()["phase"]
    assert reason in phase.lower(), phase
    assert "refused until spec.os.retryCounter is raised" in phase
    node.app_is_back()
    assert node.system.slots()[node.other_label()] == ("inprogress", node.made[name].version)


@pytest.mark.slow
def test_a_version_that_failed_is_tried_again_when_the_retry_counter_moves(node: Field) -> None:
    before = node.system.node_status()["bootTime"]
    node.want("hangs", retry=1)
    node.becomes("hangs", "Writing", "Rebooting", "Testing")
    node.becomes("hangs", "FellBack")
    assert node.system.node_status()["bootTime"] > before


def cut_power_at(node: Field, name: str, *steps: str) -> None:
    node.becomes(name, *steps)
    node.system.machine.cut_power()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["Writing", "Rebooting", "Testing"])
def test_a_power_cut_during_an_update_never_bricks_it(node: Field, moment: str) -> None:
    """While it is written and right after the switch the update goes on by itself; a test that was
    cut is a test that failed."""
    before = node.running()
    name = f"cut-{moment.lower()}"
    node.offer(name)
    node.want(name)
    cut_power_at(node, name, moment)
    node.system.power_on()
    end = node.becomes(name, "FellBack", "Updated")
    if moment == "Writing":
        assert end == "Updated"
    if moment == "Testing":
        assert end == "FellBack"
    assert node.running() == (before if end == "FellBack" else node.made[name].version)
    node.app_is_back()
