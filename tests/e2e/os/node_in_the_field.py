"""A node in the field: it has an app with data, and can be sent versions of its system."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevirt.client.resources import Object
from edgevirt.host.disk.table import read_table
from edgevirt.model.disk import Label
from tests.e2e.os.os_system import BOOT, OsSystem, file_server, os_system
from tests.e2e.os.variants import Variant, Workshop, same
from tests.e2e.system import NODE

UPDATE = 1800.0
"""Seconds for a whole update, emulated: fetch, write, boot, test. Some 100 on a quiet machine, ten
times that on a busy one.
"""


@dataclass
class Field:
    """`made`: the versions that were offered, by name. `starts`: the app's, when last seen."""

    system: OsSystem
    workshop: Workshop
    port: int = 0
    starts: int = 0
    made: dict[str, Variant] = field(default_factory=dict)

    def offer(self, name: str, change: Callable[[Path], None] = same) -> Variant:
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

    def want(self, name: str, **more: int) -> None:
        self.system.fleet.patch("EdgeNode", NODE, {"os": {"image": name, **more}})

    def step(self, name: str) -> str:
        """How far the node is with that version; empty while it speaks of another."""
        told = self.system.os()
        wanted: str = told.get("step", "")
        return wanted if told.get("version") == self.made[name].version else ""

    def becomes(self, name: str, *steps: str, seconds: float = UPDATE) -> str:
        found: str = self.system.eventually(
            f"{name} becomes {steps}; it is {self.step(name)}",
            lambda: (step := self.step(name)) in steps and step,
            seconds,
        )
        return found

    def cut_power_at(self, name: str, step: str) -> None:
        self.becomes(name, step)
        self.system.machine.cut_power()
        self.system.power_on()

    def running(self) -> str:
        [version] = [s["version"] for s in self.system.os()["slots"] if s.get("running")]
        return str(version)

    def add_app(self) -> None:
        self.port = self.system.add_app("probe", port=self.system.ports[0])

    def app_is_back(self) -> None:
        """With the data that it had: its volume counts its starts. They are on the disk now, also
        when the power is cut next.
        """
        self.starts = self.system.eventually(
            "the app answers, with its data",
            lambda: (starts := self.system.starts(self.port)) > 1 and starts,
            BOOT,
        )
        assert self.system.run(self.port, "/bin/busybox sync && echo synced") == "synced"

    def room_for_data(self) -> int:
        """MiB of the file system that the app's volume has; 0 while it does not answer."""
        shown = self.system.run(self.port, "/bin/busybox df -Pm /data").splitlines()
        return int(shown[-1].split()[1]) if shown else 0

    def other_label(self) -> str:
        [label] = [s["label"] for s in self.system.os()["slots"] if not s.get("running")]
        return str(label)

    # -- its disk, in somebody's hand; its power is cut --

    def flip(self, name: str) -> None:
        """One bit of that version's image in its slot: in the padding, which nobody ever reads but
        who measures all of it. Once more, and it is as it was.
        """
        version = self.made[name]
        [label] = [at for at, (_, found) in self.system.slots().items() if found == version.version]
        size = (self.workshop.directory / version.file).stat().st_size
        place = read_table(self.system.disk).get(Label(label)).start + size - 1
        with self.system.disk.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    def give(self, name: str, content: bytes) -> None:
        """A file of CONFIG."""
        directory = self.system.directory / "tampered"
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
        self.system.edgevirt(
            "image", "configure", str(self.system.disk), "--config", str(directory)
        )
        (directory / name).unlink()

    def given(self, name: str) -> bytes:
        """As it was at first."""
        return (self.system.directory / "config" / name).read_bytes()

    # -- what the fleet says --

    def trusted(self, word: str) -> Object:
        """Waits until the fleet says so of what boots now."""
        found: Object = self.system.eventually(
            f"the node is {word}",
            lambda: (status := self.system.node_status()).get("trust") == word and status,
            BOOT,
        )
        return found

    def fell_back(self, name: str, before: str, reason: str, words: str) -> None:
        """From that version to the one `before`, for that reason, told in such words; it stays
        refused, and the app is back.
        """
        self.becomes(name, "FellBack")
        assert self.running() == before
        status = self.system.node_status()
        assert status["bootReason"] == reason, status
        phase = status["os"]["phase"]
        assert words in phase, phase
        assert "refused until spec.os.retryCounter is raised" in phase
        self.app_is_back()
        assert self.system.slots()[self.other_label()] == ("inprogress", self.made[name].version)


@contextlib.contextmanager
def field_of_nodes(directory: Path, **options: Any) -> Iterator[Field]:
    """Its node has no power, nor a disk. `options`: of the MachineSpec."""
    workshop = Workshop(directory / "served", directory / "scratch")
    with file_server(workshop.directory) as port, os_system(directory, **options) as system:
        url = f"http://fleet.local:{port}"
        system.fleet.create("Datastore", "os-images", {"type": "HTTP", "url": url})
        system.push("probe:1.0")
        system.add_image("probe", "probe:1.0")
        yield Field(system, workshop)


@contextlib.contextmanager
def node_in_the_field(directory: Path, settings: str = "", **options: Any) -> Iterator[Field]:
    """Online, and its app answers. `settings`: CONFIG's grub.cfg."""
    with field_of_nodes(directory, **options) as made:
        system = made.system
        if settings:
            (system.directory / "config/grub.cfg").write_text(settings)
        system.lay_disk()
        system.power_on()
        made.add_app()
        system.online()
        system.eventually("the app answers", lambda: system.starts(made.port) > 0, BOOT)
        yield made
