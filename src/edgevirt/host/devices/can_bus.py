"""The bit rate of a CAN bus, and what its controller does besides: set while the bus is down.

https://docs.kernel.org/networking/can.html
"""

from __future__ import annotations

import errno
from typing import Any, Final

from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.model.can import CanBus, CanTiming

_MODES: Final = {
    "loopback": "loopback",
    "listen-only": "listenonly",
    "triple-sampling": "3_samples",
    "one-shot": "one_shot",
    "berr-reporting": "berr_reporting",
    "fd": "fd",
    "fd-non-iso": "fd_non_iso",
    "presume-ack": "presume_ack",
    "cc-len8-dlc": "cc_len8_dlc",
}
"""The kernel's names, as pyroute2 has them."""
_REFUSALS: Final = {
    errno.EOPNOTSUPP: "its controller does not have that; a virtual bus has no bit rate",
    errno.EDOM: "its controller has no such bit rate",
    errno.EINVAL: "its controller has no such timing",
    errno.ERANGE: "its controller has no such timing",
    errno.ENODEV: "it is gone",
}
_TOLERANCE: Final = 0.005
"""Of a bit rate: farther apart two controllers do not understand each other for long."""


def configure(name: str, can: CanBus) -> None:
    """It is down afterwards. Blocks. Raises HypervisorError."""
    what = f"cannot set CAN bus {name} to {words(can)}"
    parts: list[tuple[str, dict[str, Any]]] = [
        ("IFLA_CAN_BITTIMING", _timing(can.timing)),
        # all modes: what an app before this one had on is off again
        ("IFLA_CAN_CTRLMODE", {told: _on(mode in can.modes) for mode, told in _MODES.items()}),
    ]
    if can.data is not None:
        parts.append(("IFLA_CAN_DATA_BITTIMING", _timing(can.data)))
    about = {"attrs": [("IFLA_INFO_KIND", "can"), ("IFLA_INFO_DATA", {"attrs": parts})]}
    with IPRoute() as netlink:
        found = netlink.link_lookup(ifname=name)
        if not found:
            raise HypervisorError(f"{what}: there is no such interface")
        try:
            netlink.link("set", index=found[0], state="down")
            netlink.link("set", index=found[0], IFLA_LINKINFO=about)
            [link] = netlink.get_links(found[0])
        except NetlinkError as error:
            why = _REFUSALS.get(error.code, str(error))
            raise HypervisorError(f"{what}: {why}") from error
    _judge(what, link, can)


def _judge(what: str, link: Any, can: CanBus) -> None:
    """The kernel takes what is next to it where the controller has no such bit rate."""
    given = ((can.timing, "IFLA_CAN_BITTIMING"), (can.data, "IFLA_CAN_DATA_BITTIMING"))
    for wanted, attribute in given:
        if wanted is None:
            continue
        timing = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", attribute)
        has = timing["bitrate"] if timing else 0
        if abs(has - wanted.bitrate) > wanted.bitrate * _TOLERANCE:
            raise HypervisorError(f"{what}: the nearest that its controller has is {has} bit/s")


def words(can: CanBus) -> str:
    data = f", {can.data.bitrate} for data" if can.data is not None else ""
    modes = f", {', '.join(can.modes)}" if can.modes else ""
    return f"{can.timing.bitrate} bit/s{data}{modes}"


def _timing(timing: CanTiming) -> dict[str, int]:
    return {
        "bitrate": timing.bitrate,
        "sample_point": timing.sample_point,
        "sjw": timing.jump_width,
    }


def _on(state: bool) -> str:
    return "on" if state else "off"
