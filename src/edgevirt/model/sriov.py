"""Virtual functions of a network card (SR-IOV): PCI functions of their own that share its port.

A card's own function is the physical one. The virtual ones are numbered from 0, and named after it:
`eth1vf0` is the first of `eth1`.
"""

from __future__ import annotations

import re
from typing import Final

from edgevirt.model.base import Noun

MOST_FUNCTIONS: Final = 255
"""Of one card: the wire's kind of number elsewhere."""
COUNT_SETTING: Final = "sriov-vf-count"
"""Their number, among the settings of a device."""
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MOST_VLAN: Final = 4094

_NAME: Final = re.compile(r"(.+)vf(0|[1-9]\d{0,2})")


class FunctionSettings(Noun, frozen=True, kw_only=True):
    """What a config says of a virtual function; `mac` as it is spelled there. Empty, 0: nothing."""

    index: int = 0
    mac: str = ""
    vlan: int = 0


class VirtualFunction(Noun, frozen=True, kw_only=True):
    """One on this machine, and how its card is to treat it. `card`: PCI address of the physical
    function. An empty `mac` stays what it is; `vlan` 0 is none.
    """

    card: str
    index: int
    mac: str = ""
    vlan: int = 0


class CardStatus(Noun, frozen=True, kw_only=True):
    """Key: as PhysicalIo's. domains alone. Whether a card has the wanted virtual functions."""

    why: str = ""
    """«cannot make …: why»."""


def function_name(of: str, index: int) -> str:
    """`of`: a name of the card."""
    return f"{of}vf{index}"


def read_function_name(name: str) -> tuple[str, int] | None:
    """Its card's name and its number, where it may be a virtual function's name."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found is not None else None


def name_range(of: str, count: int) -> str:
    """`eth1vf0 to eth1vf7`."""
    first = function_name(of, 0)
    return first if count == 1 else f"{first} to {function_name(of, count - 1)}"


def check_settings(settings: FunctionSettings) -> str:
    """What is wrong with them: a sentence's end."""
    if settings.mac and not is_mac(settings.mac):
        return f"{settings.mac[:32]!r} is no MAC address for it, such as 02:16:3e:00:00:01"
    if not 0 <= settings.vlan <= MOST_VLAN:
        return f"VLAN {settings.vlan} is not within 1 to {MOST_VLAN}"
    return ""


def is_mac(text: str) -> bool:
    """One device's address: neither of a group of receivers, nor of none."""
    mac = text.lower()
    return bool(_MAC.fullmatch(mac) and mac.strip("0:")) and not int(mac[:2], 16) & 1
