"""A stick brings a port config, and takes along what it has a place for."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from edgevirt.host.fakes.sticks import FakeStick, FakeSticks
from edgevirt.model.ids import NodeId
from edgevirt.model.node import AgentState, AgentStatus, Identity
from edgevirt.node.console.visits import Visits, identity_files, safe_name

CONFIG = json.dumps({"Version": 1, "Ports": [{"IfName": "eth0"}]}).encode()


def visits(stick: FakeStick, diagnosis: dict[str, bytes] | None = None) -> Visits:
    found = {"diagnosis.txt": b"one"} if diagnosis is None else diagnosis
    return Visits(
        FakeSticks({"sdb": stick}), lambda: {"uuid": b"u"}, lambda: found, lambda: "S/1 ü"
    )


async def test_a_port_config_is_taken_once_for_each_time_it_is_plugged_in() -> None:
    stick = FakeStick({"usb.json": CONFIG})
    v = visits(stick)
    (config,) = await v.look(5.0)
    assert (config.ports[0].ifname, config.priority) == ("eth0", 5.0)
    assert await v.look(6.0) == []
    v.sticks.plugged.clear()  # type: ignore[attr-defined]
    assert await v.look(7.0) == []
    v.sticks.plugged["sdb"] = stick  # type: ignore[attr-defined]
    assert len(await v.look(8.0)) == 1


async def test_one_that_makes_no_sense_is_passed_over() -> None:
    assert await visits(FakeStick({"usb.json": b"{", "override.json": CONFIG})).look(5.0) != []
    assert await visits(FakeStick({"usb.json": b"{"})).look(5.0) == []


async def test_identity_and_diagnosis_are_left_where_there_is_a_place_for_them() -> None:
    stick, diagnosis = FakeStick(directories={"identity", "dump"}), {"diagnosis.txt": b"one"}
    v = visits(stick, diagnosis)
    await v.look(5.0)
    assert stick.files["identity/S_1__/uuid"] == b"u"
    diagnosis["diagnosis.txt"] = b"two"
    await v.look(6.0)
    with tarfile.open(fileobj=io.BytesIO(stick.files["dump/diag.tar"])) as tar:
        taken = tar.extractfile("diagnosis.txt")
        assert taken is not None
        assert taken.read() == b"two"


async def test_a_stick_without_a_place_for_them_is_left_as_it_is() -> None:
    stick = FakeStick()
    await visits(stick).look(5.0)
    assert stick.files == {}


async def test_a_stick_that_is_pulled_meanwhile_harms_nobody() -> None:
    class Pulled(FakeSticks):
        async def find(self) -> list[str]:
            return ["sdb"]

    v = Visits(Pulled(), dict, dict, lambda: "S")
    assert await v.look(5.0) == []


def test_only_what_is_public_is_left() -> None:
    identity = Identity(device_cert="D", ecdh_cert="E", onboarding_cert="O", serial="S")
    agent = AgentStatus(state=AgentState.ONLINE, since=1.0, node=NodeId("n"))
    assert identity_files(identity, agent) == {
        "device.cert.pem": b"D",
        "onboard.cert.pem": b"O",
        "serial": b"S",
        "uuid": b"n",
    }
    assert identity_files(None, None) == {}


@pytest.mark.parametrize(
    ("serial", "name"), [("A-1", "A-1"), ("../x", "_x"), ("", "unknown"), ("a/b", "a_b")]
)
def test_a_serial_becomes_a_directory_and_nothing_else(serial: str, name: str) -> None:
    assert safe_name(serial) == name
