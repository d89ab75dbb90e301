"""An app gets the lines that it may have, whatever it tries."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pyseccomp
import pytest
from msgspec.structs import replace

from edgevirt.host.devices.gpio_warden import REQUESTS, Grant, Warden, lines_of
from edgevirt.model.hardware import Addresses, DomainDevice, GpioChip, IoType, MachineDevices
from tests.worlds.container import ContainerWorld

V2, HANDLE, EVENT = 0xC250_B407, 0xC16C_B403, 0xC030_B404
PROGRAM = """
static long call(long n, long a, long b, long c) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return r;
}
static char request[592];
void begin(long *stack) {
  char **arguments = (char **)(stack + 1);
  long number = 0xC250B407L, high = arguments[3] ? 1L << 32 : 0;
  long chip = call(2, (long)arguments[1], 2, 0);
  *(int *)request = arguments[2][0] - '0';
  *(int *)(request + 560) = 1;
  long result = call(16, chip, number | high, (long)request);
  call(60, result < 0 ? -result : 0, 0, 0);
}
__asm__(".globl _start\\n_start: mov %rsp, %rdi\\n and $-16, %rsp\\n call begin");
"""
"""Requests a line (its second argument, one digit) of a chip (its first), and ends with the errno.
With a third argument it hides the request in a number whose upper half the kernel ignores."""


def request(number: int, *lines: int, count: int | None = None) -> bytearray:
    kind = REQUESTS[number]
    data = bytearray(kind.size)
    struct.pack_into(f"={len(lines)}I", data, kind.lines, *lines)
    if kind.number is not None:
        struct.pack_into("=I", data, kind.number, len(lines) if count is None else count)
    return data


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[str]:
    """A device file that stands for a chip."""
    path = f"/dev/gpiochipTEST{os.getpid()}"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    yield path
    os.unlink(path)


def confined(task: Callable[[], bytes], grants: list[Grant], made: list[bytes]) -> bytes:
    """What `task` returns in a process whose requests a warden looks at. Of those that are made the
    bytes go to `made`; what comes of one is a pipe that says `pin`."""

    def make(path: str, number: int, data: bytearray) -> int:
        made.append(bytes(data))
        reading, writing = os.pipe()
        os.write(writing, b"pin")
        os.close(writing)
        return reading

    ours, theirs = socket.socketpair()
    if (child := os.fork()) == 0:
        rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
        for number in REQUESTS:
            argument = pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFF_FFFF, number)
            rules.add_rule(pyseccomp.NOTIFY, "ioctl", argument)
        rules.load()
        notices = pyseccomp._libseccomp.seccomp_notify_fd(rules._filter)
        socket.send_fds(theirs, [b"x"], [notices])
        os.close(notices)
        theirs.sendall(task())
        os._exit(0)
    theirs.close()
    _, [notices], _, _ = socket.recv_fds(ours, 1, 1)
    thread = threading.Thread(target=Warden(notices, grants, make).serve)
    thread.start()
    said = ours.recv(1024)
    os.waitpid(child, 0)
    thread.join(30)
    assert not thread.is_alive(), "a warden ends with its app"
    os.close(notices)
    ours.close()
    return said


def asking(chip: str, data: bytearray, number: int = V2) -> Callable[[], bytes]:
    def task() -> bytes:
        libc = ctypes.CDLL(None, use_errno=True)
        opened = os.open(chip, os.O_RDWR)
        buffer = (ctypes.c_char * len(data)).from_buffer(data)
        if libc.ioctl(opened, ctypes.c_ulong(number), buffer) != 0:
            return errno.errorcode[ctypes.get_errno()].encode()
        got = struct.unpack_from("=i", data, REQUESTS[number & 0xFFFF_FFFF].descriptor)[0]
        return os.read(int(got), 10)

    return task


@pytest.mark.root
@pytest.mark.parametrize("number", REQUESTS)
def test_an_app_gets_its_line_open_and_by_each_of_the_kernels_interfaces(
    chip: str, number: int
) -> None:
    made: list[bytes] = []
    data = request(number, 4)
    assert confined(asking(chip, data, number), [Grant(chip, (4, 7))], made) == b"pin"
    assert [lines_of(REQUESTS[number], one) for one in made] == [[4]]


@pytest.mark.root
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (request(V2, 5), b"EPERM"),
        (request(V2, 4, 5), b"EPERM"),
        (request(V2, 4, count=0), b"EINVAL"),
        (request(V2, 4, count=2**31), b"EINVAL"),
    ],
    ids=["another's", "one of both", "none", "countless"],
)
def test_no_other_line_and_no_nonsense_reaches_the_kernel(
    chip: str, data: bytearray, why: bytes
) -> None:
    made: list[bytes] = []
    assert confined(asking(chip, data), [Grant(chip, (4, 7))], made) == why
    assert made == []


@pytest.mark.root
def test_a_device_that_is_no_chip_of_the_app_is_none(chip: str) -> None:
    made: list[bytes] = []
    said = confined(asking("/dev/null", request(V2, 4)), [Grant(chip, (4,))], made)
    assert (said, made) == (b"ENOTTY", [])


@pytest.mark.root
def test_a_request_hidden_in_a_longer_number_is_seen(chip: str) -> None:
    made: list[bytes] = []
    said = confined(asking(chip, request(V2, 5), V2 | 1 << 32), [Grant(chip, (4,))], made)
    assert (said, made) == (b"EPERM", [])


@pytest.mark.root
def test_memory_that_is_not_there_ends_the_request_and_not_the_warden(chip: str) -> None:
    def task() -> bytes:
        libc = ctypes.CDLL(None, use_errno=True)
        opened = os.open(chip, os.O_RDWR)
        for address in (0, 1 << 63):
            libc.ioctl(opened, ctypes.c_ulong(V2), ctypes.c_void_p(address))
        return asking(chip, request(V2, 4))()

    assert confined(task, [Grant(chip, (4,))], []) == b"pin"


# -- in containers -------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ContainerWorld]:
    short = Path(tempfile.mkdtemp(prefix="edgevirt-test-"))  # the name of a socket is
    made = ContainerWorld(short)
    source = tmp_path / "request.c"
    source.write_text(PROGRAM)
    flags = ("-nostdlib", "-static", "-fno-stack-protector", "-O1", "-w")
    subprocess.run(["gcc", *flags, source, "-o", made.layer / "bin/request"], check=True)
    yield made
    await made.close()
    shutil.rmtree(short)


@pytest.mark.root
async def test_two_containers_share_a_chip_and_each_has_its_own_line(
    world: ContainerWorld, chip: str
) -> None:
    """The kernel itself says that this chip is none (ENOTTY), where it is asked."""
    name = Path(chip).name
    world.devices.plug(MachineDevices(gpio=(GpioChip(name=name, label="sim", lines=8),)))
    script = f"for line in 4 7; do request {chip} $line; echo $line is $?; done; " \
             f"request {chip} 7 hidden; echo hidden is $?; " \
             f"request {chip} 4 hidden; echo hidden is $?; echo ready; sleep 1000"  # fmt: skip
    hypervisor = world.hypervisor()
    said = []
    for line in (4, 7):
        pin = DomainDevice(
            label=f"pin-{line}", type=IoType.OTHER, addresses=Addresses(gpio=f"sim:{line}")
        )
        domain = replace(world.domain("do", script), devices=(pin,))
        await hypervisor.create(domain, b"")
        await hypervisor.start(domain.app)
        await world.ready(domain.app)
        said.append(world.console(domain.app).split("\n")[:4])
    refused, asked = errno.EPERM, errno.ENOTTY
    assert said == [
        [f"4 is {asked}", f"7 is {refused}", f"hidden is {refused}", f"hidden is {asked}"],
        [f"4 is {refused}", f"7 is {asked}", f"hidden is {asked}", f"hidden is {refused}"],
    ]


@pytest.mark.root
async def test_a_warden_outlives_the_service_and_ends_with_its_app(
    world: ContainerWorld, chip: str
) -> None:
    world.devices.plug(MachineDevices(gpio=(GpioChip(name=Path(chip).name, lines=8),)))
    pin = Addresses(gpio=f"{Path(chip).name}:1")
    domain = replace(
        world.domain("run"),
        devices=(DomainDevice(label="pin", type=IoType.OTHER, addresses=pin),),
    )
    await world.hypervisor().create(domain, b"")
    await world.hypervisor().start(domain.app)
    await world.ready(domain.app)
    assert len(wardens(domain.app)) == 1
    await world.hypervisor().delete(domain.app)
    assert wardens(domain.app) == []


def wardens(app: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_text()
            except OSError:
                continue
            if "gpio_warden" in words and app in words:
                found.append(entry.name)
    return found
