"""Run on a kernel with two controllers on one CAN bus, `can0` and `can1`, and a virtual bus.

Gives `can0` to an app's network, as `host.devices` does, and prints what comes of it, in JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from edgevirt.host.devices import can_bus, interfaces
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.rights.namespace import inside
from edgevirt.model.can import CanBus, CanTiming

APP = Path("/run/netns/app")
FRAME = (0x123).to_bytes(4, "little") + bytes((3, 0, 0, 0)) + b"abc" + bytes(5)


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def bus(bitrate: int, *modes: str) -> CanBus:
    return CanBus(timing=CanTiming(bitrate=bitrate), modes=modes)


def link(name: str, *enter: str) -> dict[str, Any]:
    [found] = json.loads(run(*enter, "ip", "-d", "-j", "link", "show", name))
    data = found["linkinfo"].get("info_data", {})
    return {
        "up": "UP" in found["flags"],
        "bitrate": data.get("bittiming", {}).get("bitrate", 0),
        "modes": data.get("ctrlmode", []),
    }


def refusal(name: str, can: CanBus) -> str:
    try:
        interfaces.give(name, APP, can)
    except HypervisorError as error:
        return str(error)
    return ""


def open_bus(name: str) -> socket.socket:
    found = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    found.settimeout(30)
    found.bind((name,))
    return found


def main() -> None:
    run("ip", "netns", "add", "app")
    run("ip", "link", "add", "vcan0", "type", "vcan")
    enter = ("ip", "netns", "exec", "app")
    told: dict[str, Any] = {
        "virtual": refusal("vcan0", bus(125_000)),
        "impossible": refusal("can0", bus(1)),
        "near": refusal("can0", bus(990_001)),
        "fd": refusal("can0", bus(500_000, "fd")),
        "gone": refusal("can7", bus(125_000)),
    }
    interfaces.give("can0", APP, bus(125_000, "one-shot"))
    told["first"] = link("can0", *enter)
    interfaces.take_back("can0", APP)
    interfaces.give("can0", APP, bus(500_000))
    told["second"] = link("can0", *enter)

    can_bus.configure("can1", bus(500_000))
    run("ip", "link", "set", "can1", "up")
    with APP.open() as namespace, inside(namespace.fileno()):
        ours = open_bus("can0")
    with ours, open_bus("can1") as theirs:
        ours.send(FRAME)
        told["frame"] = theirs.recv(16) == FRAME
    print(json.dumps(told))


if __name__ == "__main__":
    main()
