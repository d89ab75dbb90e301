"""The diagnosis names what is wrong, in words, where somebody sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgevirt.host.light import KernelLight, NoLight, light_of_the_machine
from edgevirt.host.screen import FileScreen, SerialScreen, TerminalScreen
from edgevirt.model import kinds
from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import Slot, SlotState
from edgevirt.model.ids import AppId, NodeId
from edgevirt.model.node import AgentState, AgentStatus, Fault, Identity
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Led,
    PortConfig,
    PortConfigEntry,
    PortConfigList,
    PortSource,
    PortStatus,
    Reach,
)
from edgevirt.node.console.report import Facts, report
from edgevirt.node.console.service import Console
from edgevirt.runtime.clock import VirtualClock
from edgevirt.runtime.memory import MemoryStore

WRONG = "the certificate of c.example:443 does not lead to this node's root certificate"
PORT = PortStatus(
    name="eth0", ifname="eth0", up=True, addresses=("192.0.2.2/24",), routers=("192.0.2.1",),
    dns=("192.0.2.53",), reach=Reach.WRONG_ROOT, error=WRONG,
)  # fmt: skip
NETWORK = DeviceNetworkStatus(source=PortSource.LAST_RESORT, index=1, ports=(PORT,))
TROUBLE = Trouble(why="cannot reach c.example: certificate verify failed", since=1.0)
AGENT = AgentStatus(
    state=AgentState.ONBOARDING, since=1.0, trouble=TROUBLE, fault=Fault.UNREACHABLE
)
ENTRIES = (
    PortConfigEntry(
        config=PortConfig(source=PortSource.CONTROLLER, priority=1.0), last_error="cannot: silence"
    ),
    PortConfigEntry(config=PortConfig(source=PortSource.LAST_RESORT, priority=0.0)),
)


def facts(**more: object) -> Facts:
    known = {
        "server": "c.example",
        "led": Led.NO_TLS,
        "identity": Identity(device_cert="", ecdh_cert="", serial="S1", soft_serial="soft"),
        "agent": AGENT,
        "network": NETWORK,
        "configs": PortConfigList(entries=ENTRIES, current=1),
    }
    return Facts(version="1.2", **{**known, **more})  # type: ignore[arg-type]


def test_when_a_forgotten_node_asks_next_is_told() -> None:
    hint = "it asks to be let in again at 2026-12-01T00:59:00Z"
    agent = replace(AGENT, trouble=replace(TROUBLE, hint=hint))
    assert hint in "\n".join(report(facts(agent=agent)))


def test_a_wrong_root_certificate_is_named_with_what_to_look_at() -> None:
    text = "\n".join(report(facts()))
    assert "no trusted connection: wrong server, or wrong root certificate" in text
    assert "light blinks 12×" in text
    assert WRONG in text
    assert "is root-certificate.pem of the node's config the one of this controller?" in text
    assert "cannot reach c.example: certificate verify failed" in text


def test_it_says_who_the_node_is_and_how_it_is_connected() -> None:
    slot = Slot(label="IMGB", state=SlotState.ACTIVE, current=True)
    app = AppInstanceStatus(id=AppId("a"), name="a", state=SwState.RUNNING, since=1.0)
    halted = msgspec.structs.replace(app, state=SwState.HALTED)
    lines = report(facts(slots={"IMGB": slot}, apps={"a": app, "b": halted}))
    assert lines[0] == "edgevirt 1.2, slot IMGB (active)"
    assert "serial       S1, soft serial soft" in lines
    assert "node         not onboarded" in lines
    assert "port config  lastresort (2 of 2)" in lines
    assert "             fell back from that of zedagent: cannot: silence" in lines
    assert "ports        eth0; up; DHCP; 192.0.2.2/24; router 192.0.2.1; DNS 192.0.2.53" in lines
    assert "apps         1 of 2 running" in lines


def test_before_anything_is_known_it_says_so() -> None:
    lines = report(Facts(version="1.2"))
    assert "state        starting: starting (light blinks 0×)" in lines
    assert "controller   none: the node's config holds no file server" in lines


def test_words_of_others_cannot_draw_on_the_screen() -> None:
    bad = msgspec.structs.replace(PORT, error="\x1b[2Jyou are fine\x07\n" + "x" * 900)
    network = msgspec.structs.replace(NETWORK, ports=(bad,))
    lines = report(facts(network=network))
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 400


class Noted:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.shown: list[list[str]] = []

    def show(self, lines: Sequence[str]) -> None:
        self.shown.append(list(lines))


class Counted:
    def __init__(self) -> None:
        self.flashes = 0

    def shine(self, on: bool) -> None:
        self.flashes += on


async def test_the_screen_and_the_light_follow_what_happens_and_nothing_else() -> None:
    store, clock, screen, light = MemoryStore(), VirtualClock(), Noted(), Counted()
    console = Console(store, clock, [screen], light, Facts(version="1"))
    running = asyncio.create_task(console.run())
    try:
        await clock.advance(2.0)
        assert len(screen.shown) == 1
        await store.put(kinds.DEVICE_NETWORK_STATUS, "node", NETWORK)
        await clock.advance(2.0)
        told = await store.get(kinds.LED_STATUS, "node")
        assert told is not None
        assert told.value.led is Led.NO_TLS
        light.flashes = 0
        await clock.advance(6.0)
        assert light.flashes == 12
        online = AgentStatus(state=AgentState.ONLINE, since=1.0, node=NodeId("n"))
        await store.put(kinds.AGENT_STATUS, "node", online)
        await clock.advance(10.0)
        seen = len(screen.shown)
        later = msgspec.structs.replace(online, last_contact=99.0)
        await store.put(kinds.AGENT_STATUS, "node", later)
        await clock.advance(10.0)
        assert len(screen.shown) == seen
        assert "online: onboarded" in "\n".join(screen.shown[-1])
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def test_a_serial_line_gets_what_is_new_and_a_screen_all_of_it(tmp_path: Path) -> None:
    line, terminal, file = tmp_path / "ttyS0", tmp_path / "tty1", tmp_path / "diagnosis"
    line.touch()
    terminal.touch()
    serial = SerialScreen(line)
    serial.show(["one", "", "two"])
    assert line.read_text() == "edgevirt: one\nedgevirt: two\n"
    line.write_text("")
    serial.show(["one", "three"])
    assert line.read_text() == "edgevirt: three\n"
    TerminalScreen(terminal).show(["one", "two"])
    assert terminal.read_text().endswith("one\ntwo\n")
    FileScreen(file).show(["one"])
    assert file.read_text() == "one\n"


def test_a_screen_that_is_not_there_harms_nobody(tmp_path: Path) -> None:
    for screen in (SerialScreen, TerminalScreen, FileScreen):
        screen(tmp_path / "none" / "tty").show(["one"])


def test_the_light_is_the_likeliest_of_those_that_are_for_the_whole_machine(tmp_path: Path) -> None:
    assert isinstance(light_of_the_machine(tmp_path / "none"), NoLight)
    for name in ("input3::capslock", "mmc0::", "board:green:power", "board:blue:status"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "brightness").touch()
    light = light_of_the_machine(tmp_path)
    assert isinstance(light, KernelLight)
    light.shine(True)
    assert (tmp_path / "board:blue:status" / "brightness").read_text() == "1"
