"""A whole node with a TPM and an encrypted disk: what is in the vault, and who waits for it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.vault import EncryptedDirectory
from edgevirt.node.services import ROWS, WithVault
from tests.e2e.os.os_system import file_server
from tests.parts.device_client import Onboarding
from tests.parts.fleet_process import FleetProcess
from tests.parts.host_node import Node, eventually, start
from tests.parts.swtpm import Swtpm, swtpm
from tests.worlds.agent import private_pem

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]

REMOVE_KEY_OF_ALL_USERS = 0xC040_6619
"""linux/fscrypt.h"""
WAITING = [row.name for row in ROWS if row.vault is WithVault.WAITS]
OTHERS = [row.name for row in ROWS if row.vault is not WithVault.WAITS]


@dataclass
class Box:
    """A machine's disk and TPM. `boot()` is a power cycle into an image."""

    directory: Path
    tpm: Swtpm

    @contextlib.contextmanager
    def boot(self, image: str, **more: object) -> Iterator[Node]:
        self.tpm.restart()
        module = open_tpm(self.tpm.socket)
        assert module is not None
        module.extend(13, hashlib.sha256(image.encode()).digest())
        module.close()
        with self._disk():
            node = start(self.directory, tpm=str(self.tpm.socket), **more)
            try:
                yield node
            finally:
                node.process.terminate()
                node.process.wait(60)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        image, point = self.directory / "disk", self.directory / "state" / "persist"
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(256 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "encrypt", image], check=True)
        point.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-o", "loop", image, point], check=True)
        try:
            yield
        finally:
            forget_key(point / "vault" / "data")
            subprocess.run(["umount", point], check=True)


def forget_key(vault: Path) -> None:
    """As a power cut does it: whatever else on this machine still has the disk mounted."""
    identifier = EncryptedDirectory(vault)._policy()
    assert identifier is not None
    by_identifier = struct.pack("II16s16x", 2, 0, identifier)
    parent = os.open(vault.parent, os.O_RDONLY)
    with contextlib.suppress(OSError):  # it was not there
        fcntl.ioctl(parent, REMOVE_KEY_OF_ALL_USERS, by_identifier + bytes(24))
    os.close(parent)


class NamedFleet(FleetProcess):
    """A fleet that the node calls by a name."""

    def _command(self, verb: str, *more: str) -> list[str]:
        named = ("--san", "controller.test") if verb in {"init", "run"} else ()
        return super()._command(verb, *more, *named)


@pytest.fixture
def named_fleet(tmp_path: Path) -> Iterator[FleetProcess]:
    (tmp_path / "controller").mkdir()
    fleet = NamedFleet(tmp_path / "controller")
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with swtpm(tmp_path / "tpm") as machine:
        yield Box(tmp_path, machine)


def test_a_vault_opens_by_itself_for_the_image_that_it_knows_and_for_no_other(box: Box) -> None:
    with box.boot("one") as node:
        eventually(node.up, "all services run")
        secret = node.file("persist/vault/data/secret")
        secret.write_text("geheim")
    with box.boot("another") as node:
        eventually(lambda: all(node.pid(name) for name in OTHERS), "what does not wait runs")
        eventually(lambda: bool(node.pid("ports")), "the last one of them as well")
        assert not any(node.pid(name) for name in WAITING)
        data = node.file("persist/vault/data")
        assert "secret" not in [path.name for path in data.iterdir()]
        assert b"geheim" not in (box.directory / "disk").read_bytes()

    with box.boot("one") as node:
        eventually(node.up, "all services run")
        assert node.file("persist/vault/data/secret").read_text() == "geheim"
        keys = sorted(path.name for path in node.file("persist/keys").iterdir())
        assert not [name for name in keys if name.endswith(".key.pem")]


def test_after_an_update_the_controllers_copy_opens_it_and_without_it_it_stays_closed(
    box: Box, named_fleet: FleetProcess
) -> None:
    """The whole way: quotes, attestation, escrow, and what people see of it."""
    fleet, serial, onboarding = named_fleet, "vault-0001", Onboarding()
    fleet.admit(onboarding)
    fleet.create("EdgeNode", serial, {"serial": serial})
    give_config(box.directory / "config", fleet, onboarding)
    booted = partial(box.boot, serial=serial, forwards=[fleet.nodes])

    def trust() -> str:
        found: str = fleet.status("EdgeNode", serial).get("trust", "")
        return found

    with booted("one") as node:
        eventually(node.up, "all services run")
        eventually(lambda: trust() == "Attested", "the fleet believes its quote")
        mark = node.file("persist/keys/allow-vault-clean")
        eventually(lambda: not mark.exists(), "the fleet keeps a copy of the key")
        node.file("persist/vault/data/secret").write_text("geheim")

    with booted("two") as node:
        eventually(node.up, "the fleet gave the key back")
        assert node.file("persist/vault/data/secret").read_text() == "geheim"

    fleet.stop()
    with booted("two") as node:
        eventually(node.up, "the vault opens by itself, without the fleet")
    with booted("three") as node:
        eventually(lambda: all(node.pid(name) for name in OTHERS), "what does not wait runs")
        assert not any(node.pid(name) for name in WAITING)
        fleet.start()
        eventually(node.up, "the fleet is back, and gave the key back", 90.0)
        assert node.file("persist/vault/data/secret").read_text() == "geheim"


def test_a_node_whose_vault_stays_closed_still_gets_an_operating_system(
    box: Box, named_fleet: FleetProcess, tmp_path: Path
) -> None:
    """It belonged to another fleet, say: this one has no copy of the key."""
    with box.boot("one") as node:
        eventually(node.up, "all services run")
        node.file("persist/vault/data/secret").write_text("geheim")

    fleet, serial, onboarding = named_fleet, "vault-0002", Onboarding()
    fleet.admit(onboarding)
    give_config(box.directory / "config", fleet, onboarding)
    (tmp_path / "files").mkdir()
    image = b"a root image" * 1000
    digest = hashlib.sha256(image).hexdigest()
    (tmp_path / "files/os.img").write_bytes(image)
    with file_server(tmp_path / "files") as port:
        store = {"type": "HTTP", "url": f"http://controller.test:{port}"}
        fleet.create("Datastore", "files", store)
        version = {"version": "os-2", "reference": "os.img", "sha256": digest, "maxSize": "1Mi"}
        fleet.create("OSImage", "os-2", {**version, "datastoreRefs": [{"name": "files"}]})
        fleet.create("EdgeNode", serial, {"serial": serial, "os": {"image": "os-2"}})
        with box.boot("two", serial=serial, forwards=[fleet.nodes, port]) as node:
            eventually(lambda: bool(node.pid("verifier")), "it goes on without the vault", 90.0)
            kept = node.file(f"persist/system/blobs/{digest}")
            eventually(kept.exists, "the image is fetched and proven", 90.0)
            assert kept.read_bytes() == image
            assert not any(node.pid(name) for name in WAITING)


def give_config(directory: Path, fleet: FleetProcess, onboarding: Onboarding) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "server").write_text(f"controller.test:{fleet.nodes}\n")
    (directory / "root-certificate.pem").write_bytes(fleet.root_file.read_bytes())
    (directory / "onboard.cert.pem").write_bytes(onboarding.pem)
    (directory / "onboard.key.pem").write_bytes(private_pem(onboarding.key))
