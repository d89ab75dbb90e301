"""What process 1 measures, in which order, and that a machine without a TPM goes on."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from edgevirt.host.tpm import TpmError, measure_config, read_measured
from edgevirt.host.tpm.measure import config_measurements, kernel_measurements


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    (directory / "DevicePortConfig").mkdir(parents=True)
    (directory / "server").write_text("fleet:8443\n")
    (directory / "root-certificate.pem").write_text("root\n")
    (directory / "onboard.key.pem").write_text("a secret\n")
    (directory / "DevicePortConfig" / "override.json").write_text("{}")
    return directory


def texts(config: Path) -> dict[str, str]:
    lines = config_measurements(config)
    return {line.text.split()[0]: line.text.split(" ", 1)[1] for line in lines}


def test_contents_are_measured_and_a_nodes_own_files_only_by_their_presence(config: Path) -> None:
    told = texts(config)
    assert told["CONFIG/server"] == "sha256:" + hashlib.sha256(b"fleet:8443\n").hexdigest()
    assert told["CONFIG/DevicePortConfig/override.json"].startswith("sha256:")
    assert told["CONFIG/onboard.key.pem"] == "is present"
    assert told["CONFIG/soft_serial"] == "is absent"
    assert told["CONFIG/bootstrap-config.pb"] == "is absent"


def test_two_nodes_of_one_project_measure_the_same(config: Path) -> None:
    before = config_measurements(config)
    (config / "onboard.key.pem").write_text("another secret\n")
    assert config_measurements(config) == before


@pytest.mark.parametrize("name", ["server", "root-certificate.pem", "grub.cfg", "x/y"])
def test_any_other_change_is_seen(config: Path, name: str) -> None:
    before = config_measurements(config)
    (config / name).parent.mkdir(exist_ok=True)
    (config / name).write_text("changed")
    assert config_measurements(config) != before


def test_a_digest_is_that_of_its_own_text(config: Path) -> None:
    for line in config_measurements(config):
        assert line.digest == hashlib.sha256(line.text.encode()).digest()


def test_lines_are_read_back_and_what_is_none_is_left_out(config: Path) -> None:
    lines = config_measurements(config)
    text = "".join(line.to_line() for line in lines)
    assert read_measured("nonsense\n13 zz IMGA\n14 00 short\n" + text) == lines


def test_a_machine_without_a_tpm_goes_on_and_says_so(config: Path, tmp_path: Path) -> None:
    said = measure_config(config, tmp_path / "measured", tmp_path / "log", tmp_path / "none")
    assert said == "no TPM 2.0: nothing is measured"
    assert not (tmp_path / "measured").exists()


def ima(register: int, template: bytes, data: bytes) -> bytes:
    head = struct.pack("<I20sI", register, hashlib.sha1(data).digest(), len(template))
    return head + template + struct.pack("<I", len(data)) + data


def test_what_the_kernel_measured_itself_is_told_too() -> None:
    data = b"\x1a\0\0\0sha1:\0" + bytes(20) + b"\x0f\0\0\0boot_aggregate\0"
    (entry,) = kernel_measurements(ima(10, b"ima-ng", data))
    assert (entry.register, entry.text) == (10, "kernel boot_aggregate")
    assert entry.digest == hashlib.sha256(data).digest()
    with pytest.raises(TpmError, match="cut short"):
        list(kernel_measurements(ima(10, b"ima-ng", data)[:-1]))
