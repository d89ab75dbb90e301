"""What process 1 measures, in which order, and that a machine without a TPM goes on."""

from __future__ import annotations

import hashlib
import stat
import struct
from pathlib import Path

import pytest

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.measure import (
    config_measurements,
    kernel_measurements,
    measure_config,
    read_measured,
)
from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.structures import extended
from tests.parts.swtpm import swtpm

CONFIG = {
    "server": b"fleet:8443\n",
    "root-certificate.pem": b"root\n",
    "onboard.key.pem": b"a secret\n",
    "DevicePortConfig/override.json": b"{}",
}


def test_contents_are_measured_and_a_nodes_own_files_only_by_their_presence() -> None:
    told = dict(line.text.split(" ", 1) for line in config_measurements(CONFIG))
    digest = hashlib.sha256(b"fleet:8443\n").hexdigest()
    assert told["CONFIG/server"] == f"sha256:{digest}"
    assert told["CONFIG/DevicePortConfig/override.json"].startswith("sha256:")
    assert told["CONFIG/onboard.key.pem"] == "is present"
    assert told["CONFIG/soft_serial"] == "is absent"
    assert told["CONFIG/bootstrap-config.pb"] == "is absent"


def test_two_nodes_of_one_project_measure_the_same() -> None:
    other = {**CONFIG, "onboard.key.pem": b"another secret\n"}
    assert config_measurements(other) == config_measurements(dict(reversed(CONFIG.items())))


@pytest.mark.parametrize("name", ["server", "root-certificate.pem", "grub.cfg", "x/y"])
def test_any_other_change_is_seen(name: str) -> None:
    changed = {**CONFIG, name: b"changed"}
    assert config_measurements(changed) != config_measurements(CONFIG)


def test_a_digest_is_that_of_its_own_text() -> None:
    for line in config_measurements(CONFIG):
        assert line.digest == hashlib.sha256(line.text.encode()).digest()


def test_lines_are_read_back_and_what_is_none_is_left_out() -> None:
    lines = config_measurements(CONFIG)
    text = "".join(line.to_line() for line in lines)
    assert read_measured("nonsense\n13 zz IMGA\n14 00 short\n" + text) == lines


def test_a_machine_without_a_tpm_goes_on_and_says_so(tmp_path: Path) -> None:
    said = measure_config(CONFIG, tmp_path / "measured", tmp_path / "log", tmp_path / "none")
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


def test_the_lines_and_the_registers_say_the_same(tmp_path: Path) -> None:
    """What was measured before, by the initrd and the kernel, stays in the same file."""
    kernel, log, firmware = tmp_path / "kernel", tmp_path / "measured", tmp_path / "firmware"
    (kernel / "tpm0").mkdir(parents=True)
    (kernel / "tpm0" / "binary_bios_measurements").write_bytes(b"firmware's")
    log.write_text(f"13 {'ab' * 32} IMGA\n")
    with swtpm(tmp_path / "tpm") as machine:
        said = measure_config(CONFIG, log, firmware, machine.socket, kernel)
        tpm = open_tpm(machine.socket)
        assert tpm is not None
        value = tpm.registers([14])[14]
        tpm.close()
    lines = read_measured(log.read_text())
    assert lines[0].register == 13
    assert said == f"measured CONFIG into register 14: {len(lines) - 1} entries"
    expected = bytes(32)
    for line in lines[1:]:
        expected = extended(expected, line.digest)
    assert value == expected
    assert firmware.read_bytes() == b"firmware's"
    assert stat.S_IMODE(log.stat().st_mode) == 0o444
