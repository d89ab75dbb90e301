"""What is recorded of a machine is complete, has its own folder, and holds no secret."""

from __future__ import annotations

import json

import pytest

from edgevirt.model.installation import DiskFacts, Nic, Record
from edgevirt.node.installer.records import files_of, fingerprint, folder_of, told_lines


def make_record(serial: str = "S 1/2", soft_serial: str = "") -> Record:
    return Record(
        at="2026-01-01T00:00:00Z",
        version="edgevirt-1",
        outcome="installed",
        serial=serial,
        soft_serial=soft_serial,
        manufacturer="M",
        product="P",
        architecture="x86_64",
        cpus=2,
        cpu_model="C",
        memory=1 << 30,
        firmware="UEFI",
        tpm="2",
        watchdog=True,
        disks=(DiskFacts("vda", 1 << 30),),
        nics=(Nic("eth0", "02:00:00:00:00:01", "virtio_net"),),
    )


@pytest.mark.parametrize(
    ("serial", "soft", "folder"),
    [
        ("S 1/2", "", "S_1_2"),
        ("S1", "soft-1", "soft-1"),
        ("../../etc", "", "etc"),
        ("..", "", "unknown"),
        ("x" * 300, "", "x" * 80),
    ],
)
def test_a_serial_makes_a_folder_and_nothing_else(serial: str, soft: str, folder: str) -> None:
    assert folder_of(make_record(serial, soft)) == folder


def test_a_record_says_what_the_machine_is() -> None:
    files = files_of(make_record(soft_serial="soft-1"), {})
    record = json.loads(files["soft-1/record.json"])
    assert record["disks"][0]["name"] == "vda"
    assert record["nics"][0]["mac"] == "02:00:00:00:00:01"
    assert files["soft-1/soft_serial"] == b"soft-1\n"


def test_no_key_leaves_config() -> None:
    config = {"onboard.cert.pem": b"certificate", "onboard.key.pem": b"secret"}
    files = files_of(make_record(soft_serial="s"), config)
    assert files["s/onboard.cert.pem"] == b"certificate"
    assert "s/endorsement.cert.der" not in files
    assert files_of(make_record(), {}, b"der")["S_1_2/endorsement.cert.der"] == b"der"
    assert not any(b"secret" in content for content in files.values())


def test_a_fingerprint_is_that_of_the_certificate_s_bytes() -> None:
    pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert fingerprint(pem) == "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"
    assert fingerprint(b"none") == ""


def test_where_nothing_can_be_recorded_the_screen_tells_what_a_fleet_must_know() -> None:
    told = "\n".join(told_lines(make_record("S1", "soft-1")))
    assert "serial S1, soft serial soft-1" in told
    assert "eth0: 02:00:00:00:00:01" in told
