"""Virtual functions on a real kernel: made, taken, and not made anew under who has them.

No network card with them is to be had here. The kernel makes those of an NVMe disk by the same
files; what a card is told of its functions is held against the kernel's own form.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from edgevirt.host.devices import virtual_functions
from edgevirt.host.devices.protocol import DeviceError
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.model.sriov import VirtualFunction
from tests.kernel.debian_kernel import on_debian_kernel

REPOSITORY = Path(__file__).parents[4]
DISK = "0000:01:00.0"
ARGUMENTS = (
    *("-device", "intel-iommu,intremap=off"),
    *("-device", "pcie-root-port,id=root1,addr=0x10,chassis=1"),
    *("-device", "nvme-subsys,id=disks"),
    "-device",
    "nvme,serial=1,bus=root1,subsys=disks,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4",
)


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_kernel_makes_what_is_wanted_and_nothing_is_taken_from_an_app(tmp_path: Path) -> None:
    said = on_debian_kernel(
        tmp_path,
        (
            *("/usr/bin/env", f"PYTHONPATH={REPOSITORY}", sys.executable),
            *("-m", "tests.kernel.on_virtual_functions", DISK),
        ),
        modules=("/nvme.ko", "/vfio-pci.ko"),
        arguments=ARGUMENTS,
    )
    told = json.loads(said.splitlines()[-1])
    what = f"of PCI device {DISK}"
    assert told["most"] == 4
    assert told["too many"] == f"cannot make 5 virtual functions {what}: it has 4 at most"
    assert told["made"] == [["0000:01:00.1", DISK, ""], ["0000:01:00.2", DISK, ""]], "no drivers"
    assert told["file"].startswith("/dev/vfio/")
    assert (told["again"], told["driver"]) == ("", "vfio-pci")
    assert told["in use"] == f"cannot make 3 virtual functions {what}: 0000:01:00.1 is in use"
    assert told["driven"].endswith("its driver makes no network interface of it")
    assert (told["other"], told["freed"]) == ("", ["", ""])
    assert (told["more"], told["none"]) == (3, 0)


def test_what_a_card_is_told_has_the_kernels_form() -> None:
    """`struct ifla_vf_mac` and `struct ifla_vf_vlan` of <linux/if_link.h>."""
    has = VirtualFunction(card=DISK, index=3, mac="00:00:00:00:00:00")
    wanted = VirtualFunction(card=DISK, index=3, mac="02:16:3e:00:00:01", vlan=7)
    told = virtual_functions.changes(has, wanted)
    assert [word for word, _ in told] == ["MAC address 02:16:3e:00:00:01", "VLAN 7"]
    mac, vlan = (_packed(attribute) for _, attribute in told)
    three, seven = (3).to_bytes(4, "little"), (7).to_bytes(4, "little")
    assert mac == three + bytes.fromhex("02163e000001") + bytes(26)
    assert vlan == three + seven + bytes(4)
    assert virtual_functions.changes(wanted, wanted) == []
    [(word, _)] = virtual_functions.changes(wanted, VirtualFunction(
        card=DISK, index=3, mac="02:16:3e:00:00:01"
    ))  # fmt: skip
    assert word == "no VLAN"


def _packed(attribute: dict[str, Any]) -> bytes:
    """The value alone: behind two headers, and below a list and one function in it."""
    message = ifinfmsg()
    message["attrs"] = [("IFLA_VFINFO_LIST", attribute)]
    message.encode()
    return bytes(message.data)[16 + 16 + 3 * 4 :]


@pytest.mark.root
def test_a_card_whose_driver_does_not_have_them_says_so() -> None:
    name = f"tst{os.getpid()}"[:15]
    subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
    try:
        plain = VirtualFunction(card=DISK, index=0)
        virtual_functions.configure(name, plain)  # nothing of it is asked for
        wanted = VirtualFunction(card=DISK, index=0, vlan=7)
        with pytest.raises(DeviceError, match=f"function 0 of {name}: there is none"):
            virtual_functions.configure(name, wanted)
        [(_, attribute)] = virtual_functions.changes(plain, wanted)
        with IPRoute() as netlink, pytest.raises(NetlinkError) as refused:
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0],
                         IFLA_VFINFO_LIST=attribute)  # fmt: skip
        assert refused.value.code == errno.EOPNOTSUPP, "understood, but not had"
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)
