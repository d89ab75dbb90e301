"""The life of a node: installed by the medium, at work, updated while somebody pulls its plug at
each moment, and at last its disk in a stranger's hand. It always boots; its data is there when what
boots is what it says, and closed when it is not.

One machine lives through all of it, in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edgevirt.host.disk.table import read_table
from edgevirt.image.machine import Firmware, Machine
from edgevirt.model.disk import DISK_GUID, INSTALLER_GUID, Label, partition
from tests.e2e.os.installing import (
    ARGUMENTS,
    INSTALL,
    config_of,
    copy_installer,
    make_disk,
    record_of,
)
from tests.e2e.os.node_in_the_field import Field, field_of_nodes
from tests.e2e.os.os_system import BOOT, DISK, IMAGES, OUTSIDE
from tests.e2e.os.variants import lean
from tests.e2e.system import NODE, SERIAL

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.updates, pytest.mark.timeout(1800)]

GOOD, CURE = "good", "cure"
ROOT_CERTIFICATE = "root-certificate.pem"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """Not installed yet. Its fleet demands proof of what it boots."""
    directory = tmp_path_factory.mktemp("life")
    medium = directory / "machine/installer.raw"
    options = {"sticks": (medium,), "sticks_first": True, "firmware": Firmware.BIOS}
    with field_of_nodes(directory, **options) as made:
        copy_installer(medium)
        make_disk(made.system.disk, DISK)
        (directory / "config/installer.cfg").write_text(ARGUMENTS)
        made.system.configure_disk(medium)
        (directory / "config/installer.cfg").unlink()
        measured = json.loads((IMAGES / "manifest.json").read_text())["measurements"]
        state = {"name": "the build", "registers": measured}
        demand = {"mode": "Enforce", "accepted": [state], "learnFrom": {"all": True}}
        made.system.fleet.create("AttestationPolicy", "all", demand)
        yield made


# -- it is installed -------------------------------------------------------------------------------


def test_an_empty_disk_gets_all_that_a_node_needs(node: Field) -> None:
    system = node.system
    medium = system.machine.spec.sticks[0]
    system.power_on()
    system.console_says("edgevirt: switching off", INSTALL)
    system.machine.wait(INSTALL)
    assert "installed edgevirt-" in system.machine.printed()
    entries = read_table(system.disk).entries
    labels = ["EFI System", "IMGA", "IMGB", "CONFIG", "P3", "BIOS boot"]
    assert [e.label for e in entries] == labels
    images = {
        row.guid(disk) for row in map(partition, Label) for disk in (DISK_GUID, INSTALLER_GUID)
    }
    assert not images & {entry.guid for entry in entries}, "its GUIDs are not its own"
    assert config_of(medium) - config_of(system.disk) == {"installer.cfg"}
    record = record_of(medium, SERIAL)
    assert (record["serial"], record["softSerial"], record["firmware"]) == (SERIAL, SERIAL, "BIOS")
    assert record["outcome"].endswith("on /dev/vda")
    assert {disk["name"] for disk in record["disks"]} == {"vda", "sda"}
    assert record["nics"][0]["mac"] == "52:54:00:12:34:56"


def test_without_the_medium_it_onboards_proves_itself_and_runs_an_app(node: Field) -> None:
    system = node.system
    system.machine = Machine(replace(system.machine.spec, sticks=(), firmware=Firmware.UEFI))
    node.offer(GOOD, lean)
    system.power_on()
    node.add_app()
    system.online()
    status = node.trusted("Attested")
    assert status["attestation"]["acceptedAs"] == "the build"
    system.eventually("the app answers", lambda: system.starts(node.port) == 1, BOOT)
    assert system.condition("VaultOpen")["status"] == "True"
    assert {state for state, _ in system.slots().values()} == {"active", "unused"}


def test_an_app_on_the_node_s_kernel_gets_more_room_while_it_runs(node: Field) -> None:
    """Here, since a host that tests run on may lack the right to resize a file system in use."""
    system = node.system
    assert node.room_for_data() < 16
    volume = {"name": "data", "size": "48Mi", "mountPath": "/data"}
    system.fleet.patch("App", "probe", {"volumes": [volume]})
    system.eventually("it has the room", lambda: node.room_for_data() > 32, BOOT)
    assert system.starts(node.port) == 1


# -- it is updated, and its plug is pulled ---------------------------------------------------------


def test_a_power_cut_right_after_the_switch_boots_the_new_version(node: Field) -> None:
    node.want(GOOD)
    node.cut_power_at(GOOD, "Rebooting")
    node.becomes(GOOD, "Testing")
    assert node.running() == node.made[GOOD].version


def test_a_power_cut_in_the_test_window_brings_the_version_before_back(node: Field) -> None:
    [before] = [v for _, v in node.system.slots().values() if v != node.made[GOOD].version]
    node.cut_power_at(GOOD, "Testing")
    node.fell_back(GOOD, before, "PowerFail", "without a word")


def test_tried_once_more_it_is_kept_and_the_vault_opens_again(node: Field) -> None:
    before = node.running()
    node.want(GOOD, retryCounter=1)
    node.becomes(GOOD, "Updated")
    kept = {node.made[GOOD].version: "active", before: "unused"}
    node.system.eventually(
        f"the slots are told as {kept}",  # each by itself, and the step as well
        lambda: {version: state for state, version in node.system.slots().values()} == kept,
        BOOT,
    )
    node.app_is_back()
    vault = node.system.condition("VaultOpen")
    assert vault["status"] == "True", vault


# -- somebody had its disk in hand -----------------------------------------------------------------


def test_a_flipped_bit_and_a_changed_setting_are_named_and_the_vault_stays_closed(
    node: Field,
) -> None:
    system = node.system
    system.machine.cut_power()
    node.flip(GOOD)
    node.give("hosts", node.given("hosts") + f"{OUTSIDE} elsewhere.local\n".encode())
    system.power_on()
    status = node.trusted("Untrusted")
    assert status["attestation"]["barred"]
    assert {found["register"] for found in status["attestation"]["differences"]} >= {13}
    shown = system.edgevirt("attestation", "show", NODE)
    assert "13         " in shown
    assert "14         " in shown

    def closed() -> bool:
        vault = system.condition("VaultOpen")
        return vault["status"] == "False" and "registers 13, 14" in vault["message"]

    system.eventually("the vault is told as closed, and why", closed, BOOT)


@pytest.mark.slow
def test_a_barred_node_is_healed_by_another_version_and_its_data_is_there(node: Field) -> None:
    system = node.system
    system.machine.cut_power()
    node.give("hosts", node.given("hosts"))
    system.power_on()
    system.online()
    node.trusted("Untrusted")
    node.offer(CURE)
    node.want(CURE)
    node.becomes(CURE, "Updated")
    node.trusted("Attested")
    node.app_is_back()


def test_with_another_root_certificate_it_speaks_to_nobody_and_says_so(node: Field) -> None:
    system = node.system
    system.machine.cut_power()
    text = node.given(ROOT_CERTIFICATE)
    middle = len(text) // 2
    other = b"B" if text[middle : middle + 1] != b"B" else b"C"
    node.give(ROOT_CERTIFICATE, text[:middle] + other + text[middle + 1 :])
    before = len(system.machine.printed())
    system.power_on()
    system.eventually(
        "the console names the root certificate",
        lambda: "root certificate" in system.machine.printed()[before:],
        BOOT,
    )


@pytest.mark.slow
def test_when_the_original_is_back_so_is_the_data(node: Field) -> None:
    system = node.system
    system.machine.cut_power()
    starts = node.starts
    node.give(ROOT_CERTIFICATE, node.given(ROOT_CERTIFICATE))
    system.power_on()
    system.online()
    node.trusted("Attested")
    # it ran at none of the starts between
    system.eventually("the app answers", lambda: system.starts(node.port) == starts + 1, BOOT)
