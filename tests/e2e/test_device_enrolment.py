"""How a machine becomes a node, and ceases to be one, through both APIs of a real fleet."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest

from edgevirt.wire import envelope
from edgevirt.wire.messages import register
from tests.parts.device_client import Device, DeviceClient, Onboarding, device_info, new_key
from tests.parts.fleet_process import PATIENCE, FleetProcess, until


async def test_a_machine_with_an_unknown_onboarding_certificate_is_refused(
    newcomer: DeviceClient,
) -> None:
    assert await newcomer.register(Onboarding()) == 403
    assert await newcomer.learn_uuid() == 401


async def test_a_serial_that_is_not_listed_is_refused(
    fleet: FleetProcess, newcomer: DeviceClient
) -> None:
    narrow = Onboarding()
    fleet.admit(narrow, "only-this-one")
    assert await newcomer.register(narrow) == 403


async def test_the_serial_of_another_machine_is_a_conflict(
    fleet: FleetProcess, node: DeviceClient, onboarding: Onboarding
) -> None:
    thief = DeviceClient(fleet.nodes, fleet.root_file, Device(node.device.serial))
    assert await thief.register(onboarding) == 409
    assert await thief.learn_uuid() == 401
    assert (await node.poll())[0] == 304
    await thief.close()


async def test_pem_without_base64_is_taken_too(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    """The specification says PEM, nodes send base64 of it."""
    message = register.ZRegisterMsg(pemCert=newcomer.device.pem, softSerial=newcomer.device.serial)
    reply = await newcomer.post("/register", onboarding.seal(message.SerializeToString()))
    assert reply.status_code == 201


async def test_a_registration_signed_by_another_key_is_refused(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    payload = newcomer.device.registration()
    forged = envelope.seal(payload, new_key(), onboarding.cert_hash, onboarding.pem)
    assert (await newcomer.post("/register", forged)).status_code == 401
    other = envelope.seal(payload, onboarding.key, onboarding.cert_hash, newcomer.device.pem)
    assert (await newcomer.post("/register", other)).status_code == 401


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff",
        register.ZRegisterMsg(pemCert=b"junk", serial="x").SerializeToString(),
        register.ZRegisterMsg(pemCert=base64.b64encode(b"junk"), serial="x").SerializeToString(),
    ],
)
async def test_a_registration_that_cannot_be_read_is_422(
    newcomer: DeviceClient, onboarding: Onboarding, payload: bytes
) -> None:
    assert (await newcomer.post("/register", onboarding.seal(payload))).status_code == 422


async def test_people_let_a_machine_in(fleet: FleetProcess, newcomer: DeviceClient) -> None:
    key = Onboarding()
    fleet.admit(key, approve=False)
    assert await newcomer.register(key) == 201
    assert await newcomer.register(key) == 200
    assert await newcomer.learn_uuid() == 403
    requests = fleet.client.list(fleet.client.type_of("EnrollmentRequest"), "default")["items"]
    (asked,) = [r for r in requests if r["spec"]["serial"] == newcomer.device.serial]
    assert asked["status"]["fingerprint"] == newcomer.device.cert_hash.hex()
    name = asked["metadata"]["name"]
    node_name = f"let-in-{newcomer.device.serial}"
    fleet.patch("EnrollmentRequest", name, {"approved": True, "nodeName": node_name})
    until("it is a node", lambda: fleet.status("EnrollmentRequest", name).get("edgeNode"))
    assert await newcomer.learn_uuid() == 200
    shown = until("its UUID is shown", lambda: fleet.status("EdgeNode", node_name).get("nodeID"))
    assert shown == newcomer.node_id


async def test_people_keep_a_machine_out(fleet: FleetProcess, newcomer: DeviceClient) -> None:
    key = Onboarding()
    fleet.admit(key, approve=False)
    await newcomer.register(key)
    requests = fleet.client.list(fleet.client.type_of("EnrollmentRequest"), "default")["items"]
    (asked,) = [r for r in requests if r["spec"]["serial"] == newcomer.device.serial]
    fleet.patch("EnrollmentRequest", asked["metadata"]["name"], {"approved": False})
    assert await newcomer.register(key) == 403
    assert await newcomer.learn_uuid() in (401, 403)


async def test_an_edge_node_that_waits_for_the_serial_is_bound(
    fleet: FleetProcess, newcomer: DeviceClient
) -> None:
    key = Onboarding()
    fleet.admit(key, approve=False)
    name = f"waiting-{newcomer.device.serial}"
    fleet.create("EdgeNode", name, {"serial": newcomer.device.serial})
    received = await newcomer.come_online(key)
    assert received.device_name == name
    until("it is told", lambda: fleet.condition("EdgeNode", name, "Enrolled")["status"] == "True")


async def test_an_edge_node_made_later_answers_the_machine_that_asked(
    fleet: FleetProcess, newcomer: DeviceClient
) -> None:
    key = Onboarding()
    fleet.admit(key, approve=False)
    assert await newcomer.register(key) == 201
    name = f"later-{newcomer.device.serial}"
    fleet.create("EdgeNode", name, {"serial": newcomer.device.serial})
    async with asyncio.timeout(PATIENCE):
        while await newcomer.learn_uuid() != 200:
            await asyncio.sleep(0.01)
    shown = until("its UUID is shown", lambda: fleet.status("EdgeNode", name).get("nodeID"))
    assert shown == newcomer.node_id


async def test_a_deleted_node_is_no_longer_believed_and_may_come_back(
    fleet: FleetProcess, node: DeviceClient, onboarding: Onboarding
) -> None:
    before = node.node_id
    fleet.delete("EdgeNode", node.device.serial)
    async with asyncio.timeout(PATIENCE):
        while (await node.poll())[0] != 401:
            pass
    assert await node.report(device_info(time.time())) == 401
    node.config_hash = ""
    await node.come_online(onboarding)
    assert node.node_id == before
