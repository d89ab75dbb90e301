"""The nodes' API as a stock node meets it: a real fleet process, TLS, and every promise by name."""

from __future__ import annotations

import hashlib
import struct
import time
import uuid
import zlib
from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.wire import controller_certs, envelope, logs
from edgevirt.wire.messages import (
    attest,
    auth,
    certs,
    config,
    flowlog,
    health,
    info,
)
from edgevirt.wire.messages import logs as log_messages
from tests.parts.device_client import (
    Device,
    DeviceClient,
    Onboarding,
    bundle,
    device_info,
    metric,
)
from tests.parts.fleet_process import FleetProcess, until

BASE = "/api/v2/edgedevice"
UNKNOWN_FIELD = b"\xf2\x7f\x03new"
"""Field 2046, as a newer node might send it."""


# -- the controller's part of the conformance checklist --


def test_ping_needs_no_signature(fleet: FleetProcess) -> None:
    reply = fleet.plain_get(f"{BASE}/ping")
    assert (reply.status_code, reply.content) == (200, b"")


def test_certs_hold_one_signing_and_an_exchange_certificate(fleet: FleetProcess) -> None:
    reply = fleet.plain_get(f"{BASE}/certs")
    assert reply.headers["content-type"] == "application/x-proto-binary"
    payload = envelope.open_envelope(reply.content, 100_000).payload
    published = certs.ZControllerCert.FromString(payload)
    roles = [cert.type for cert in published.certs]
    assert roles.count(certs.CERT_TYPE_CONTROLLER_SIGNING) == 1
    assert roles.count(certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE) >= 1
    controller_certs.verify_controller_certs(
        published, fleet.root_file.read_bytes(), datetime.now(UTC)
    )


def test_envelopes_name_the_signing_certificate_by_its_pem_as_served(fleet: FleetProcess) -> None:
    opened = envelope.open_envelope(fleet.plain_get(f"{BASE}/certs").content, 100_000)
    published = certs.ZControllerCert.FromString(opened.payload)
    (signing,) = [c for c in published.certs if c.type == certs.CERT_TYPE_CONTROLLER_SIGNING]
    assert opened.sender_hash == hashlib.sha256(signing.cert).digest()
    assert len(opened.signature) == 64


async def test_the_config_hash_is_never_empty(node: DeviceClient) -> None:
    assert node.config_hash


async def test_an_unchanged_config_is_304_without_a_body(node: DeviceClient) -> None:
    request = config.ConfigRequest(configHash=node.config_hash, integrity_token=node.token)
    for _ in range(3):
        reply = await node.send("/id/{id}/config", request.SerializeToString())
        assert (reply.status_code, reply.content) == (304, b"")
        assert "content-type" not in reply.headers


async def test_a_repeated_registration_is_200(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    assert await newcomer.register(onboarding) == 201
    assert await newcomer.register(onboarding) == 200
    assert await newcomer.learn_uuid() == 200
    before = newcomer.node_id
    assert await newcomer.register(onboarding) == 200
    assert await newcomer.learn_uuid() == 200
    assert newcomer.node_id == before


async def test_a_nonce_has_12_to_32_bytes_and_is_new_each_time(node: DeviceClient) -> None:
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_NONCE)
    nonces = [(await node.ask(request)).nonce.nonce for _ in range(3)]
    assert all(12 <= len(nonce) <= 32 for nonce in nonces)
    assert len(set(nonces)) == 3


async def test_vault_keys_are_not_taken_with_a_wrong_token(node: DeviceClient) -> None:
    request = attest.ZAttestReq(reqType=attest.Z_ATTEST_REQ_TYPE_STORE_KEYS)
    request.storage_keys.integrity_token = b"wrong"
    request.storage_keys.keys.add(key_type=attest.ATTEST_VOLUME_KEY_TYPE_VSK, key=b"evil")
    answer = await node.ask(request)
    assert answer.storage_keys_resp.response == (
        attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_ITOKEN_MISMATCH
    )
    assert len((await node.attest()).keys) == 0


async def test_a_node_cannot_speak_for_another_one(
    fleet: FleetProcess, node: DeviceClient, onboarding: Onboarding
) -> None:
    other = DeviceClient(fleet.nodes, fleet.root_file, Device(f"sn-{uuid.uuid4().hex[:12]}"))
    await other.come_online(onboarding)
    body = device_info(time.time()).SerializeToString()
    for path_id in (other.node_id, str(uuid.uuid4()), "not-a-uuid"):
        reply = await node.send(f"/id/{path_id}/info", body)
        assert reply.status_code == 403
    await other.close()


async def test_log_lines_in_go_s_json_are_taken(node: DeviceClient) -> None:
    line = (
        b'{"severity":"info","source":"zedagent","iid":"2069","content":"{\\"level\\":\\"info\\"}",'
        b'"msgid":29839,"timestamp":{"seconds":1733399305,"nanos":873489712},'
        b'"filename":"/pillar/x.go:1","function":"f","someday":"more"}\n'
    )
    comment = b'{"devID":"%s","image":"IMGA","eveVersion":"16.0"}' % node.node_id.encode()
    assert (await node.send("/id/{id}/newlogs", gzip(line, comment=comment))).status_code == 201


async def test_logs_of_apps_are_taken_on_both_paths(node: DeviceClient) -> None:
    app = str(uuid.uuid4())
    for number, path in enumerate(
        (f"/id/{node.node_id}/apps/instanceid/{app}/newlogs", f"/apps/instanceid/{app}/newlogs")
    ):
        payload = bundle([f"line {number}"], logs.AppHeader("shop"), time.time())
        assert (await node.send(path, payload)).status_code == 201


async def test_old_nodes_may_send_logs_their_way(node: DeviceClient) -> None:
    old = log_messages.LogBundle(devID=node.node_id, image="IMGB", eveVersion="4.0")
    for number in range(2_000):
        old.log.add(severity="info", source="zedagent", content=f"{number} " + "x" * 100)
    assert (await node.send("/id/{id}/logs", old.SerializeToString())).status_code == 201
    app = log_messages.AppInstanceLogBundle()
    app.log.add(content="hello")
    for path in ("/id/{id}/apps/instanceid/%s/logs", "/id/{id}/apps/instances/id/%s/logs"):
        reply = await node.send(path % uuid.uuid4(), app.SerializeToString())
        assert reply.status_code == 201


async def test_unknown_fields_of_newer_nodes_are_tolerated(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    newcomer.node_id = ""
    sealed = onboarding.seal(newcomer.device.registration() + UNKNOWN_FIELD)
    assert (await newcomer.post("/register", sealed + UNKNOWN_FIELD)).status_code == 201
    assert await newcomer.learn_uuid() == 200
    await newcomer.attest()
    request = config.ConfigRequest(integrity_token=newcomer.token).SerializeToString()
    for path, payload, status in (
        ("config", request, 200),
        ("info", device_info(time.time()).SerializeToString(), 201),
        ("metrics", metric(time.time()).SerializeToString(), 201),
        ("hardwarehealth", health.ZHardwareHealth(dev_id="x").SerializeToString(), 201),
        ("flowlog", flowlog.FlowMessage(devId="x").SerializeToString(), 201),
    ):
        sealed = newcomer.device.seal(payload + UNKNOWN_FIELD) + UNKNOWN_FIELD
        reply = await newcomer.post(f"/id/{{id}}/{path}", sealed)
        assert reply.status_code == status, path


async def test_info_of_a_type_that_is_not_known_yet_is_kept(node: DeviceClient) -> None:
    assert (await node.send("/id/{id}/info", b"\x08\xc8\x01")).status_code == 201


# -- config and attestation --


async def test_the_first_config_after_a_boot_needs_attestation(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    await newcomer.register(onboarding)
    await newcomer.learn_uuid()
    assert (await newcomer.poll())[0] == 403
    newcomer.token = b"made up"
    assert (await newcomer.poll())[0] == 403
    await newcomer.attest()
    assert (await newcomer.poll())[0] == 200
    newcomer.token = b""  # it boots: the token was in memory
    assert (await newcomer.poll())[0] == 403
    await newcomer.attest()
    assert (await newcomer.poll())[0] == 304


async def test_the_token_of_an_earlier_attestation_is_worth_nothing(node: DeviceClient) -> None:
    old = node.token
    await node.attest()
    assert node.token != old
    node.token = old
    assert (await node.poll())[0] == 403


async def test_one_node_s_token_is_no_use_to_another(
    fleet: FleetProcess, node: DeviceClient, onboarding: Onboarding
) -> None:
    other = DeviceClient(fleet.nodes, fleet.root_file, Device(f"sn-{uuid.uuid4().hex[:12]}"))
    await other.come_online(onboarding)
    other.token = node.token
    assert (await other.poll())[0] == 403
    await other.close()


async def test_a_certificate_once_sent_is_not_replaced(node: DeviceClient) -> None:
    await node.attest()  # the same ones again are fine
    other = Device(node.device.serial, node.device.key)  # its exchange key is another one
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=other.certs())
    reply = await node.send("/id/{id}/attest", request.SerializeToString())
    assert reply.status_code == 403
    await node.attest()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(attest.ZAttestReq(), id="of no type"),
        pytest.param(attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT), id="no certificates"),
        pytest.param(
            attest.ZAttestReq(
                reqType=attest.ATTEST_REQ_CERT,
                certs=[certs.ZCert(type=certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE, cert=b"junk")],
            ),
            id="junk for a certificate",
        ),
    ],
)
async def test_an_attestation_request_that_makes_no_sense_is_refused(
    node: DeviceClient, request_: attest.ZAttestReq
) -> None:
    reply = await node.send("/id/{id}/attest", request_.SerializeToString())
    assert reply.status_code in (400, 422)


# -- what must not get through --


GARBAGE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x00", id="a zero byte"),
    pytest.param(b"\xff" * 500, id="ones"),
    pytest.param(b"not an envelope at all", id="text"),
    pytest.param(auth.AuthContainer().SerializeToString() or b"\x10\x00", id="an empty envelope"),
]


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize(
    "path", ["/register", "/uuid", "/id/{id}/config", "/id/{id}/info", "/id/{id}/newlogs"]
)
async def test_garbage_is_422_and_the_line_stays(
    node: DeviceClient, path: str, body: bytes
) -> None:
    assert (await node.post(path, body)).status_code == 422
    assert (await node.poll())[0] == 304


async def test_envelopes_cut_anywhere_are_refused(node: DeviceClient) -> None:
    sealed = node.device.seal(metric(time.time()).SerializeToString())
    for end in range(0, len(sealed), 7):
        reply = await node.post("/id/{id}/metrics", sealed[:end])
        assert reply.status_code in (401, 422), end


async def test_envelopes_with_any_byte_changed_are_refused(node: DeviceClient) -> None:
    payload = device_info(time.time(), "true").SerializeToString()
    sealed = bytearray(node.device.seal(payload))
    accepted = 0
    for position in range(0, len(sealed), 3):
        changed = (
            bytes(sealed[:position])
            + bytes((sealed[position] ^ 1,))
            + bytes(sealed[position + 1 :])
        )
        status = (await node.post("/id/{id}/info", changed)).status_code
        if status == 201:  # a byte that nothing depends on, such as the algorithm's number
            accepted += 1
            assert envelope.open_envelope(changed, 10_000).payload == payload
        else:
            assert status in (401, 422), position
    assert accepted <= 2


@pytest.mark.parametrize("size", [0, 1, 63, 65, 72, 128])
async def test_signatures_of_another_size_are_refused(node: DeviceClient, size: int) -> None:
    container = auth.AuthContainer.FromString(node.device.seal(b""))
    container.signatureHash = bytes(size)
    reply = await node.post("/id/{id}/config", container.SerializeToString())
    assert reply.status_code == 401


async def test_a_der_signature_is_refused(node: DeviceClient) -> None:
    payload = metric(time.time()).SerializeToString()
    der = node.device.key.sign(payload, ec.ECDSA(hashes.SHA256()))
    sealed = envelope.assemble(payload, der, node.device.cert_hash)
    assert (await node.post("/id/{id}/metrics", sealed)).status_code == 401


async def test_a_stranger_is_401(fleet: FleetProcess) -> None:
    stranger = DeviceClient(fleet.nodes, fleet.root_file, Device("stranger"))
    stranger.node_id = str(uuid.uuid4())
    for path in ("/uuid", "/id/{id}/config", "/id/{id}/info", "/id/{id}/attest"):
        assert (await stranger.send(path, b"")).status_code == 401
    await stranger.close()


async def test_a_short_sender_hash_is_enough(node: DeviceClient) -> None:
    payload = metric(time.time()).SerializeToString()
    sealed = envelope.seal(payload, node.device.key, node.device.cert_hash[:16])
    assert (await node.post("/id/{id}/metrics", sealed)).status_code == 201
    wrong = node.device.cert_hash[:16] + bytes(16)
    sealed = envelope.seal(payload, node.device.key, wrong)
    assert (await node.post("/id/{id}/metrics", sealed)).status_code == 401


async def test_bodies_beyond_their_limits_are_413(node: DeviceClient) -> None:
    for path, size in (("config", 20_000), ("newlogs", 80_000), ("metrics", 1_100_000)):
        reply = await node.send(f"/id/{{id}}/{path}", bytes(size))
        assert reply.status_code == 413, path


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("info", b""),
        ("info", b"\xff\xff\xff"),
        ("metrics", b""),
        ("metrics", b"\xff\xff\xff"),
        ("flowlog", b"\xff\xff\xff"),
        ("hardwarehealth", b"\xff\xff\xff"),
        ("attest", b"\xff\xff\xff"),
        ("config", b"\xff\xff\xff"),
        ("newlogs", b"\xff\xff\xff"),
        ("logs", b"\xff\xff\xff"),
    ],
)
async def test_payloads_that_cannot_be_read_are_422(
    node: DeviceClient, path: str, payload: bytes
) -> None:
    assert (await node.send(f"/id/{{id}}/{path}", payload)).status_code == 422


def gzip(body: bytes, comment: bytes = b'{"devID":"x"}') -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    packed = deflate.compress(body) + deflate.flush()
    head = b"\x1f\x8b\x08\x10" + bytes(4) + b"\x00\xff" + comment + b"\x00"
    return head + packed + struct.pack("<II", zlib.crc32(body), len(body) & 0xFFFFFFFF)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(gzip(bytes(30_000_000)), id="a bomb"),
        pytest.param(gzip(b'{"content":"x"}\n' * 300_000), id="a bomb of good lines"),
        pytest.param(gzip(b'{"content":"x"}\n')[:-9], id="cut short"),
        pytest.param(gzip(b'{"content":"x"}\n') * 2, id="two members"),
        pytest.param(gzip(b'{"content":"x"}\n', comment=b"[]"), id="another comment"),
        pytest.param(gzip(b"no json\n"), id="no json"),
        pytest.param(gzip(b'{"msgid":"1"}\n'), id="json of the other form"),
        pytest.param(b'{"content":"x"}\n', id="not packed"),
    ],
)
async def test_log_bundles_that_are_none_are_refused(node: DeviceClient, payload: bytes) -> None:
    began = time.monotonic()
    assert (await node.send("/id/{id}/newlogs", payload)).status_code == 422
    assert time.monotonic() - began < 10
    assert (await node.poll())[0] == 304


async def test_what_is_not_there_is_404_and_wrong_methods_are_405(node: DeviceClient) -> None:
    for path in ("/nowhere", "/id/{id}/nowhere", "/id/{id}/apps/instanceid/x/nowhere"):
        assert (await node.send(path, b"")).status_code == 404
    assert (await node.http.get("/register")).status_code == 405
    assert (await node.http.post("/ping", content=b"")).status_code == 405
    assert (await node.send("/id/{id}/apps/instanceid/no-uuid/newlogs", b"")).status_code == 400


async def test_the_other_spelling_of_the_path_is_served(node: DeviceClient) -> None:
    base = str(node.http.base_url).replace("edgedevice", "edgeDevice")
    reply = await node.http.post(f"{base}uuid", content=node.device.seal(b""))
    assert reply.status_code == 200


# -- repeats and order --


async def test_a_replayed_report_changes_nothing(fleet: FleetProcess, node: DeviceClient) -> None:
    now = time.time()
    old = node.device.seal(device_info(now - 50, "older").SerializeToString())
    new = node.device.seal(device_info(now, "newer").SerializeToString())
    name = node.device.serial
    for sealed in (old, new):
        assert (await node.post("/id/{id}/info", sealed)).status_code == 201
    until("the newer is shown", lambda: fleet.status("EdgeNode", name).get("hostname") == "newer")
    for sealed in (old, old, new):
        assert (await node.post("/id/{id}/info", sealed)).status_code == 201
    later = node.device.seal(device_info(now + 10, "newest").SerializeToString())
    assert (await node.post("/id/{id}/info", later)).status_code == 201
    until("the newest is shown", lambda: fleet.status("EdgeNode", name).get("hostname") == "newest")


async def test_a_replayed_registration_or_poll_is_harmless(
    newcomer: DeviceClient, onboarding: Onboarding
) -> None:
    sealed = onboarding.seal(newcomer.device.registration())
    codes = [(await newcomer.post("/register", sealed)).status_code for _ in range(3)]
    assert codes == [201, 200, 200]
    await newcomer.learn_uuid()
    await newcomer.attest()
    poll = newcomer.device.seal(
        config.ConfigRequest(integrity_token=newcomer.token).SerializeToString()
    )
    first, second = [await newcomer.post("/id/{id}/config", poll) for _ in range(2)]
    assert first.status_code == second.status_code == 200
    assert first.content == second.content, "the same version is sealed once"


async def test_late_news_does_not_undo_newer(fleet: FleetProcess, node: DeviceClient) -> None:
    now = int(time.time())
    name = node.device.serial
    assert await node.report(device_info(now, "present")) == 201
    until("it is shown", lambda: fleet.status("EdgeNode", name).get("hostname") == "present")
    assert await node.report(device_info(now - 3_600, "past")) == 201
    marker = info.ZInfoMsg(ztype=info.ZiDevice)
    marker.CopyFrom(device_info(now + 5, "present"))
    marker.dinfo.ncpu = 7
    assert await node.report(marker) == 201
    until("the marker is shown", lambda: fleet.status("EdgeNode", name).get("cpus") == 7)
    assert fleet.status("EdgeNode", name)["hostname"] == "present"


def test_plain_http_is_not_spoken(fleet: FleetProcess) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://localhost:{fleet.nodes}{BASE}/ping", trust_env=False)
