"""What Xen's tools are told, and what is made of what they say."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host.hypervisor import UnfitError
from edgevirt.host.xen.domain_config import write_config
from edgevirt.host.xen.first_domain import is_xen, starts_with_hardware
from edgevirt.host.xen.keeper import Kept, decode
from edgevirt.host.xen.listing import Reason, parse_list, parse_memory
from edgevirt.host.xen.store import DOMAIN_ENDED, StoreError, XenStore
from edgevirt.model.domain import Domain, DomainVif, DomainVolume, VirtualizationMode
from edgevirt.model.eci import ContentFormat
from edgevirt.model.ids import AppId

APP = AppId("5d9e7c1e-4f6a-4a57-9d3b-000000000001")
DOMAIN = Domain(
    app=APP,
    name=f"{APP}.1.7",
    display_name="guest",
    activate=True,
    mode=VirtualizationMode.PV,
    memory_kib=131072,
    vcpus=2,
    kernel="/vault/volumes/kernel",
    ramdisk="/vault/volumes/ramdisk",
    kernel_arguments='console=hvc0 note="two words"',
    volumes=(DomainVolume(path="/vault/volumes/a,b", format=ContentFormat.RAW),),
)


def test_a_domain_is_told_with_all_that_it_boots() -> None:
    assert write_config(DOMAIN, hardware=False).splitlines()[:7] == [
        f'name = "{APP}.1.7"',
        f'uuid = "{APP}"',
        'type = "pv"',
        'kernel = "/vault/volumes/kernel"',
        'ramdisk = "/vault/volumes/ramdisk"',
        'cmdline = "console=hvc0 note=\\"two words\\""',
        "memory = 128",
    ]


def test_a_disk_s_path_may_hold_what_separates_options() -> None:
    text = write_config(DOMAIN, hardware=False)
    assert 'block.sh,target=/vault/volumes/a,b"]' in text
    assert "vdev=xvda,access=rw" in text


def test_what_is_not_to_be_written_is_not_writable_for_the_domain() -> None:
    iso = DomainVolume(path="/v/cd", format=ContentFormat.ISO)
    shared = DomainVolume(path="/v/d", format=ContentFormat.RAW, readonly=True)
    text = write_config(replace(DOMAIN, volumes=(iso, shared)), hardware=False)
    assert text.count("access=ro") == 2


def test_an_interface_is_connected_to_its_tap() -> None:
    vif = DomainVif(host_name="nbu1x7", mac="02:16:3e:00:00:01")
    text = write_config(replace(DOMAIN, vifs=(vif,)), hardware=False)
    assert 'vif = ["mac=02:16:3e:00:00:01,script=' in text
    assert 'vif.sh,bridge=nbu1x7"]' in text


def test_with_hardware_virtualization_a_domain_may_be_pvh() -> None:
    wanted = replace(DOMAIN, mode=VirtualizationMode.HVM)
    assert 'type = "pvh"' in write_config(wanted, hardware=True)
    with pytest.raises(UnfitError, match="hardware virtualization"):
        write_config(wanted, hardware=False)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"kernel": ""}, "boot a kernel"),
        ({"kernel": "missing"}, "none of its volumes"),
        ({"mode": VirtualizationMode.LEGACY}, "mode LEGACY"),
        ({"kernel_arguments": "a\nname='x'"}, "nobody can print"),
        ({"volumes": (DomainVolume(path="/v", format=ContentFormat.QCOW2),)}, "raw disks"),
    ],
)
def test_what_can_never_run_is_refused_in_words(changed: dict[str, object], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        write_config(replace(DOMAIN, **changed), hardware=True)


LISTED = """\
Name                    ID   Mem VCPUs\tState\tTime(s)   UUID    Reason-Code\tSecurity Label
Domain-0                                     0   800     2     r-----      60.1 \
00000000-0000-0000-0000-000000000000        -
running.1.7                                  1   128     1     -b----       3.4 \
5d9e7c1e-4f6a-4a57-9d3b-000000000001        -
off.1.8                                      2   128     1     ---s--       1.0 \
5d9e7c1e-4f6a-4a57-9d3b-000000000002        0
again.1.9                                    3   128     1     ---s--       1.0 \
5d9e7c1e-4f6a-4a57-9d3b-000000000003        1
crashed.1.10                                 4    64     1     ---sc-       1.0 \
5d9e7c1e-4f6a-4a57-9d3b-000000000004        3
made.1.11                                    5    64     1     --p---       0.0 \
5d9e7c1e-4f6a-4a57-9d3b-000000000005        -
"""


def test_domains_are_read_off_the_list_and_why_they_ended() -> None:
    found = {one.name: one for one in parse_list(LISTED)}
    assert {name: one.reason for name, one in found.items()} == {
        "Domain-0": None,
        "running.1.7": None,
        "off.1.8": Reason.POWER_OFF,
        "again.1.9": Reason.REBOOT,
        "crashed.1.10": Reason.CRASH,
        "made.1.11": None,
    }
    assert found["made.1.11"].paused
    assert (found["running.1.7"].memory, found["running.1.7"].seconds) == (128, 3.4)


def test_the_machine_s_memory_is_more_than_the_first_domain_sees() -> None:
    said = (
        "host                   : edge-node\ntotal_memory           : 2047\nfree_memory    : 1100\n"
    )
    assert parse_memory(said) == 2047
    with pytest.raises(ValueError, match="how much memory"):
        parse_memory("xl: cannot\n")


def test_what_the_keeper_is_told_it_understands() -> None:
    kept = Kept(
        "name", "/usr/lib/xen-4.17/bin/xl", "/run/x/domain.cfg", ("/sys/fs/cgroup/a",), ("tap",)
    )
    assert decode(kept.encode()) == kept


def test_the_machine_s_kind_is_read_off_the_kernel(tmp_path: Path) -> None:
    kind = tmp_path / "type"
    assert not is_xen(kind)
    kind.write_text("xen\n")
    assert is_xen(kind)
    features = tmp_path / "capabilities"
    features.write_text("xen-3.0-x86_64 xen-3.0-x86_32p \n")
    assert not starts_with_hardware(features)
    features.write_text("xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_64 \n")
    assert starts_with_hardware(features)


# -- xenstored's protocol ----------------------------------------------------------------------


def message(kind: int, content: bytes) -> bytes:
    return struct.pack("=IIII", kind, 0, 0, len(content)) + content


@contextmanager
def store(answer: Callable[[int, bytes], bytes]) -> Iterator[XenStore]:
    """A store whose other end says `answer(kind, payload)`."""
    here, there = socket.socketpair()

    def serve() -> None:
        with there:
            while head := there.recv(16, socket.MSG_WAITALL):
                kind, _, _, size = struct.unpack("=IIII", head)
                there.sendall(answer(kind, there.recv(size, socket.MSG_WAITALL)))

    thread = threading.Thread(target=serve)
    thread.start()
    opened = XenStore(here)
    try:
        yield opened
    finally:
        opened.close()
        thread.join()


def test_what_is_not_in_the_store_is_empty() -> None:
    with store(lambda kind, payload: message(16, b"ENOENT\0")) as opened:
        assert opened.read("/local/domain/9/console/tty") == ""
        opened.remove("/local/domain/9")


def test_a_refusal_is_told() -> None:
    with (
        store(lambda kind, payload: message(16, b"EACCES\0")) as opened,
        pytest.raises(StoreError, match="EACCES"),
    ):
        opened.read("/secret")


def test_an_event_between_question_and_answer_is_kept() -> None:
    event = message(15, DOMAIN_ENDED.encode() + b"\0" + DOMAIN_ENDED.encode() + b"\0")
    with store(lambda kind, payload: event + message(kind, b"/dev/pts/3")) as opened:
        assert opened.read("/local/domain/1/console/tty") == "/dev/pts/3"
        assert opened.changed() == DOMAIN_ENDED


def test_an_answer_without_bounds_is_refused() -> None:
    huge = struct.pack("=IIII", 2, 0, 0, 1 << 30)
    with (
        store(lambda kind, payload: huge) as opened,
        pytest.raises(StoreError, match="bounds"),
    ):
        opened.read("/x")
