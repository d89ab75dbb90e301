"""The machine that images are tried in: what QEMU is asked for, and what a start and an end do."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevirt.image.machine import (
    Firmware,
    Machine,
    MachineError,
    MachineSpec,
    Port,
    machine,
)
from edgevirt.image.machine.command import qemu_command, tpm_command
from edgevirt.image.machine.tpm import make_tpm

PATIENCE = 30.0


def spec_in(tmp_path: Path, **options: object) -> MachineSpec:
    return MachineSpec(state=tmp_path / "state", disks=(tmp_path / "disk.raw",), **options)  # type: ignore[arg-type]


def option(command: list[str], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(command) if flag == name]


def test_a_comma_in_a_path_adds_no_option(tmp_path: Path) -> None:
    spec = MachineSpec(state=tmp_path, disks=(Path("/a,snapshot=on.raw"),))
    drives = option(qemu_command(spec, tmp_path, "tcg"), "-drive")
    assert "if=none,id=disk0,format=raw,file=/a,,snapshot=on.raw" in drives


def test_each_port_has_a_network_of_its_own_and_listens_on_loopback_alone(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, ports=(Port({8080: 80}), Port()))
    assert option(qemu_command(spec, tmp_path, "tcg"), "-netdev") == [
        "user,id=net0,net=10.0.2.0/24,hostfwd=tcp:127.0.0.1:8080-:80",
        "user,id=net1,net=10.0.3.0/24",
    ]


def test_the_disk_boots_before_a_stick(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, sticks=(tmp_path / "stick.raw",))
    devices = option(qemu_command(spec, tmp_path, "tcg"), "-device")
    assert "virtio-blk-pci,drive=disk0,bootindex=0" in devices
    assert "usb-storage,drive=stick0,bootindex=8" in devices


def test_a_cd_boots_when_nothing_else_does_and_is_not_written(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, cds=(tmp_path / "a.iso",))
    command = qemu_command(spec, tmp_path, "tcg")
    assert "ide-cd,drive=cd0,bootindex=16" in option(command, "-device")
    [drive] = [drive for drive in option(command, "-drive") if "id=cd0" in drive]
    assert "media=cdrom,readonly=on" in drive


def test_a_qcow2_disk_is_not_taken_for_raw_bytes(tmp_path: Path) -> None:
    spec = MachineSpec(state=tmp_path, disks=(Path("/d.qcow2"),))
    assert any("format=qcow2" in d for d in option(qemu_command(spec, tmp_path, "tcg"), "-drive"))


def test_bios_without_tpm_and_watchdog_gets_none_of_them() -> None:
    spec = spec_in(Path("/m"), firmware=Firmware.BIOS, tpm=False, watchdog=False)
    words = " ".join(qemu_command(spec, Path("/m"), "tcg"))
    assert not any(word in words for word in ("pflash", "tpm", "i6300esb"))


def test_the_tpms_secrets_are_its_users_alone(tmp_path: Path) -> None:
    command = " ".join(tpm_command(spec_in(tmp_path), tmp_path / "socket"))
    assert command.count("mode=0600") == 2


# -- real machines ---------------------------------------------------------------------------------


def boot_sector(text: str, then: bytes) -> bytes:
    """Prints `text` on the serial line."""
    code = b"\xba\xf8\x03"  # mov dx, 0x3f8
    code += b"".join(b"\xb0" + bytes([letter]) + b"\xee" for letter in text.encode())
    return (code + then).ljust(510, b"\0") + b"\x55\xaa"


HALT = b"\xf4\xeb\xfd"
END = b"\xb0\x10\xe6\xf4"
"""Asks QEMU to end, by the debug exit port."""


def bios(tmp_path: Path, sector: bytes, **options: object) -> MachineSpec:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(sector.ljust(1 << 20, b"\0"))
    (tmp_path / "state").mkdir(exist_ok=True)
    return spec_in(tmp_path, firmware=Firmware.BIOS, memory=64, cpus=1, **options)


def wait_for(made: Machine, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE
    while made.printed().count(text) < times:
        assert time.monotonic() < deadline, made.printed()
        assert made.running
        time.sleep(0.02)


@pytest.mark.slow
def test_a_reset_and_a_power_cut_start_it_anew_with_all_that_it_kept(tmp_path: Path) -> None:
    spec = bios(tmp_path, boot_sector("here\n", HALT))
    made = Machine(spec)
    made.start()
    try:
        wait_for(made, "here")
        kept = (spec.tpm_state / "tpm2-00.permall").read_bytes()
        made.reset()
        wait_for(made, "here", 2)
        made.cut_power()
        assert not made.running
        made.start()
        wait_for(made, "here", 3)
        assert len((spec.tpm_state / "tpm2-00.permall").read_bytes()) == len(kept)
    finally:
        made.cut_power()


@pytest.mark.slow
def test_a_machine_that_ends_itself_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    spec = bios(
        tmp_path,
        boot_sector("bye\n", END),
        arguments=("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
    )
    with machine(spec) as made:
        assert made._sockets is not None
        sockets = Path(made._sockets.name)
        assert made.wait(PATIENCE) == 33
        assert not sockets.exists()
        assert "bye" in made.printed()
        with pytest.raises(MachineError, match="does not run"):
            made.reset()


@pytest.mark.slow
def test_a_forwarded_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = bios(tmp_path, boot_sector("x", HALT), ports=(Port({taken.getsockname()[1]: 80}),))
        with pytest.raises(
            MachineError, match=r"does not come up; it said: .*host forwarding rule"
        ):
            Machine(spec).start()


def test_a_new_tpm_measures_by_one_algorithm(tmp_path: Path) -> None:
    make_tpm(tmp_path)
    with swtpm_on(tmp_path) as send:
        capability = struct.pack(">HIIIII", 0x8001, 22, 0x17A, 5, 0, 64)  # TPM_CAP_PCRS
        banks = send(capability)[19:]
    selected = {banks[at : at + 2]: banks[at + 3 : at + 6] for at in range(0, len(banks), 6)}
    assert selected[b"\x00\x0b"] == b"\xff\xff\xff"
    assert all(bits == bytes(3) for bank, bits in selected.items() if bank != b"\x00\x0b")


@contextlib.contextmanager
def swtpm_on(state: Path) -> Iterator[Callable[[bytes], bytes]]:
    """Started anew on its state; yields what sends it a command."""
    line = state / "line"
    command = [
        *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
        *("--server", f"type=unixio,path={line}", "--flags", "not-need-init,startup-clear"),
    ]
    with subprocess.Popen(command) as process, socket.socket(socket.AF_UNIX) as connection:
        try:
            deadline = time.monotonic() + PATIENCE
            while connection.connect_ex(str(line)) != 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)

            def send(message: bytes) -> bytes:
                connection.sendall(message)
                return connection.recv(4096)

            yield send
        finally:
            process.terminate()
