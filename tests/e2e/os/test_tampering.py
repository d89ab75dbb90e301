"""Somebody had the disk in hand. What boots then proves what it is: the node gets no config and no
key, the fleet names what differs, and its data stays where it is, closed, until the original is
back.

One machine lives through all of it, in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edgevirt.client import Object
from edgevirt.host.table import read_table
from edgevirt.model.disk import Label
from tests.e2e.os.os_system import BOOT, IMAGES, OUTSIDE, OsSystem, artifact, os_system
from tests.e2e.system import NODE

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

ROOT_CERTIFICATE = "root-certificate.pem"


@dataclass
class Guarded:
    """A node whose fleet demands proof, and its app that has data."""

    system: OsSystem
    port: int

    def flip(self) -> None:
        """One bit of the root image that runs: in its padding, where nobody ever reads it but who
        measures all of it. Once more, and it is as it was.
        """
        disk = self.system.disk
        place = read_table(disk).get(Label.IMGA).start + int(artifact("root")["size"]) - 1
        with disk.open("r+b") as file:
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

    def restore(self, name: str) -> None:
        self.give(name, self.given(name))

    def given(self, name: str) -> bytes:
        return (self.system.directory / "config" / name).read_bytes()

    def trusted(self, word: str) -> Object:
        """Waits until the fleet says so of what boots now."""
        found: Object = self.system.eventually(
            f"the node is {word}",
            lambda: (status := self.system.node_status()).get("trust") == word and status,
            BOOT,
        )
        return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    measured = json.loads((IMAGES / "manifest.json").read_text())["measurements"]
    with os_system(tmp_path_factory.mktemp("tampering")) as system:
        state = {"name": "the build", "registers": measured}
        system.fleet.create("AttestationPolicy", "all", {"mode": "Enforce", "accepted": [state]})
        system.push("probe:1.0")
        system.add_image("probe", "probe:1.0")
        system.lay_disk()
        system.power_on()
        made = Guarded(system, system.add_app("probe", port=system.ports[0]))
        system.online()
        system.eventually("the app answers", lambda: system.starts(made.port) == 1, BOOT)
        yield made


def test_what_the_builder_computed_is_what_the_fleet_accepts(node: Guarded) -> None:
    status = node.trusted("Attested")
    assert status["attestation"]["acceptedAs"] == "the build"
    assert node.system.condition("VaultOpen")["status"] == "True"


def test_a_flipped_bit_and_a_changed_setting_are_named_and_the_vault_stays_closed(
    node: Guarded,
) -> None:
    node.system.machine.cut_power()
    node.flip()
    node.give("hosts", node.given("hosts") + f"{OUTSIDE} elsewhere.local\n".encode())
    node.system.power_on()
    status = node.trusted("Untrusted")
    assert status["attestation"]["barred"]
    assert {found["register"] for found in status["attestation"]["differences"]} >= {13}
    shown = node.system.edgevirt("attestation", "show", NODE)
    assert "13         " in shown
    assert "14         " in shown

    def closed() -> bool:
        vault = node.system.condition("VaultOpen")
        return vault["status"] == "False" and "registers 13, 14" in vault["message"]

    node.system.eventually("the vault is told as closed, and why", closed, BOOT)


def test_with_another_root_certificate_it_speaks_to_nobody_and_says_so(node: Guarded) -> None:
    node.system.machine.cut_power()
    node.flip()
    node.restore("hosts")
    text = node.given(ROOT_CERTIFICATE)
    middle = len(text) // 2
    other = b"B" if text[middle : middle + 1] != b"B" else b"C"
    node.give(ROOT_CERTIFICATE, text[:middle] + other + text[middle + 1 :])
    before = len(node.system.machine.printed())
    node.system.power_on()
    node.system.eventually(
        "the console names the root certificate",
        lambda: "root certificate" in node.system.machine.printed()[before:],
        BOOT,
    )


def test_when_the_original_is_back_so_is_the_data(node: Guarded) -> None:
    node.system.machine.cut_power()
    node.restore(ROOT_CERTIFICATE)
    node.system.power_on()
    node.system.online()
    node.trusted("Attested")
    # it ran at no other start than the first one and this
    node.system.eventually("the app answers", lambda: node.system.starts(node.port) == 2, BOOT)
