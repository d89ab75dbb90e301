"""What a node gets and what people see of it, while keys rotate, disks fill and the fleet dies."""

from __future__ import annotations

import asyncio
import base64
import resource
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from edgevirt.client.errors import Refused
from edgevirt.client.resources import Object
from edgevirt.wire import cipher, logs
from edgevirt.wire.controller_certs import ControllerCerts
from edgevirt.wire.messages import attest, config, info, metrics
from tests.parts.device_client import (
    Device,
    DeviceClient,
    Onboarding,
    bundle,
    device_info,
    metric,
    new_key,
)
from tests.parts.fleet_process import PATIENCE, FleetProcess, until


@pytest.fixture
def name() -> str:
    return f"x{uuid.uuid4().hex[:8]}"


def deploy(fleet: FleetProcess, name: str, node: str, **datastore: object) -> str:
    """An app with all that belongs to it; returns the AppInstance's UID."""
    store = {"type": "OCIRegistry", "url": "docker://registry.example", **datastore}
    fleet.create("Datastore", name, store)
    fleet.create("Image", name, {"datastoreRefs": [{"name": name}], "reference": "shop:1.0"})
    fleet.create("NetworkInstance", name, {"type": "Local", "subnet": "10.7.0.0/24"})
    fleet.create(
        "App",
        name,
        {
            "image": name,
            "env": [{"name": "GREETING", "value": "hello"}],
            "interfaces": [
                {
                    "name": "eth0",
                    "networkInstance": name,
                    "ports": [{"nodePort": 8080, "appPort": 80}],
                }
            ],
            "volumes": [{"name": "data", "size": "10Mi", "mountPath": "/data"}],
        },
    )
    made = fleet.create("AppInstance", name, {"app": name, "edgeNode": node})
    uid: str = made["metadata"]["uid"]
    return uid


# -- configs --


async def test_an_app_gets_into_the_node_s_config_and_out_of_it(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    uid = deploy(fleet, name, node.device.serial)
    received = await node.poll_until_new()
    (app,) = received.apps
    assert (app.uuidandversion.uuid, app.displayname, app.activate) == (uid, name, True)
    assert "GREETING=hello" in base64.b64decode(app.userData).decode().splitlines()
    assert [ref.mount_dir for ref in app.volumeRefList] == ["", "/data"]
    assert {v.uuid for v in received.volumes} == {ref.uuid for ref in app.volumeRefList}
    assert received.contentInfo[0].URL == "shop:1.0"
    assert received.datastores[0].fqdn == "docker://registry.example"
    assert received.networkInstances[0].ip.subnet == "10.7.0.0/24"
    assert app.interfaces[0].networkId == received.networkInstances[0].uuidandversion.uuid
    until_true(fleet, "AppInstance", name, "Scheduled")
    fleet.delete("AppInstance", name)
    assert len((await node.poll_until_new()).apps) == 0


def until_true(fleet: FleetProcess, kind: str, name: str, condition: str) -> None:
    until(
        f"{kind} {name} is {condition}",
        lambda: fleet.condition(kind, name, condition)["status"] == "True",
    )


async def test_why_a_running_app_cannot_change_its_image_is_seen(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    uid = deploy(fleet, name, node.device.serial)
    received = await node.poll_until_new()
    running = info.ZInfoMsg(ztype=info.ZiApp)
    running.ainfo.AppID, running.ainfo.state = uid, info.RUNNING
    assert await node.report(running) == 201
    fleet.patch("Image", name, {"reference": "shop:9.9"})
    told = info.ZInfoMsg(ztype=info.ZiContentTree)
    told.cinfo.uuid, told.cinfo.state = received.contentInfo[0].uuid, info.RESOLVING_TAG
    told.cinfo.err.description = "cannot resolve shop:9.9: the registry has no such tag"
    assert await node.report(told) == 201
    until("it is seen", lambda: fleet.condition("AppInstance", name, "ImageReady")["status"])
    condition = fleet.condition("AppInstance", name, "ImageReady")
    assert (condition["status"], condition["message"]) == ("False", told.cinfo.err.description)
    assert fleet.status("AppInstance", name)["state"] == "RUNNING"


async def test_config_time_never_goes_back_and_the_hash_follows_the_content(
    fleet: FleetProcess, node: DeviceClient
) -> None:
    serial, seen = node.device.serial, []
    for interval in ("20", "30", "20"):
        fleet.patch("EdgeNode", serial, {"properties": {"timer.config.interval": interval}})
        received = await node.poll_until_new()
        assert received.configItems[0].value == interval
        seen.append((received.config_timestamp.ToNanoseconds(), node.config_hash))
    assert [stamp for stamp, _ in seen] == sorted({stamp for stamp, _ in seen})
    assert len({config_hash for _, config_hash in seen}) == 3


async def test_a_change_that_does_not_concern_a_node_leaves_it_alone(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    fleet.create("Datastore", name, {"type": "OCIRegistry", "url": "docker://other.example"})
    fleet.create("EdgeNode", name, {"serial": name})
    fleet.patch("EdgeNode", name, {"properties": {"timer.config.interval": "33"}})
    for _ in range(5):
        assert (await node.poll())[0] == 304


async def test_a_datastore_s_password_reaches_the_node_alone(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    fleet.create("Secret", name, {}, stringData={"username": "robot", "password": "s3cr3t-of-ours"})
    deploy(fleet, name, node.device.serial, credentialsSecretRef={"name": name})
    received = await node.poll_until_new()
    assert b"s3cr3t-of-ours" not in received.SerializeToString()
    (context,) = received.cipherContexts
    trusted: ControllerCerts = await node.fetch_certs()
    key = cipher.shared_key(node.device.exchange_key, trusted.exchanges[context.controllerCertHash])
    secrets = cipher.open_secrets(key, received.datastores[0].cipherData)
    assert (secrets.dsAPIKey, secrets.dsPassword) == ("robot", "s3cr3t-of-ours")
    for _ in range(2):
        assert (await node.poll())[0] == 304
    assert "s3cr3t-of-ours" not in fleet.log()


async def test_an_app_waits_for_a_node_that_has_not_sent_its_key(
    fleet: FleetProcess, newcomer: DeviceClient, onboarding: Onboarding, name: str
) -> None:
    serial = newcomer.device.serial
    fleet.create("EdgeNode", serial, {"serial": serial})
    fleet.create("Secret", name, {}, stringData={"username": "robot", "password": "p"})
    deploy(fleet, name, serial, credentialsSecretRef={"name": name})
    certs, newcomer.device.certs = newcomer.device.certs, lambda: []  # type: ignore[method-assign]
    await newcomer.register(onboarding)
    await newcomer.learn_uuid()
    quoted = await newcomer.ask(quote_request())
    newcomer.token = quoted.quoteResp.integrity_token
    _, received = await newcomer.poll()
    assert received is not None
    assert (len(received.datastores), len(received.apps)) == (0, 1)
    until(
        "it is told",
        lambda: "encryption key" in fleet.condition("AppInstance", name, "Scheduled")["message"],
    )
    assert fleet.condition("AppInstance", name, "Scheduled")["status"] == "False"
    newcomer.device.certs = certs  # type: ignore[method-assign]
    await newcomer.attest()
    assert len((await newcomer.poll_until_new()).datastores) == 1
    until_true(fleet, "AppInstance", name, "Scheduled")


def quote_request() -> attest.ZAttestReq:
    return attest.ZAttestReq(reqType=attest.ATTEST_REQ_QUOTE)


# -- rotation --


@pytest.mark.parametrize("role", ["signing", "encryption"])
async def test_certificates_are_rotated_under_a_polling_node(
    fleet: FleetProcess, node: DeviceClient, role: str
) -> None:
    before = await node.fetch_certs()
    named = (await new_config(fleet, node)).controllercert_confighash
    fleet.rotate(role)
    deadline = time.monotonic() + PATIENCE
    received: config.EdgeDevConfig | None = None
    while time.monotonic() < deadline and received is None:
        status, received = await node.poll()
        assert status in (200, 304)
        await asyncio.sleep(0.02)
    other = DeviceClient(fleet.nodes, fleet.root_file, node.device)
    after = await other.fetch_certs()
    await other.close()
    assert received is not None
    assert received.controllercert_confighash != named, "or nodes would not fetch the new ones"
    if role == "signing":
        assert after.signing.cert_hash != before.signing.cert_hash
        assert set(after.exchanges) == set(before.exchanges)
    else:
        assert after.signing.cert_hash == before.signing.cert_hash
        assert set(before.exchanges) < set(after.exchanges), "old blocks must stay readable"


async def test_a_rotated_tls_certificate_is_shown_by_both_apis_without_a_restart(
    fleet: FleetProcess, node: DeviceClient
) -> None:
    def shown() -> list[bytes]:
        return [shown_by(port, fleet.root_file) for port in (fleet.nodes, fleet.operators)]

    before = shown()
    fleet.rotate("tls")
    until("both show another", lambda: not set(shown()) & set(before))
    assert len(set(shown())) == 1
    assert (await node.poll())[0] == 304, "its connection went on"
    assert fleet.client.types()


def shown_by(port: int, root_file: Path) -> bytes:
    """The certificate of a server that the fleet's root vouches for."""
    context = ssl.create_default_context(cafile=str(root_file))
    with (
        socket.create_connection(("localhost", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        found = tls.getpeercert(binary_form=True)
    assert found is not None
    return found


async def new_config(fleet: FleetProcess, node: DeviceClient) -> config.EdgeDevConfig:
    mark = str(5 + uuid.uuid4().int % 80_000)
    fleet.patch("EdgeNode", node.device.serial, {"properties": {"timer.config.interval": mark}})
    return await node.poll_until_new()


# -- the road home --


async def test_people_see_what_a_node_tells_of_itself(
    fleet: FleetProcess, node: DeviceClient
) -> None:
    now, serial = time.time(), node.device.serial
    message = device_info(now, "box-7")
    adapter = message.dinfo.systemAdapter.status.add()
    adapter.ports.add(name="eth0", IPAddrs=["192.0.2.7"], macAddr="02:00:00:00:00:01", up=True)
    adapter.ports.add(name="eth1").err.description = "no DHCP answer"
    assert await node.report(message) == 201
    until("it is shown", lambda: fleet.status("EdgeNode", serial).get("hostname") == "box-7")
    status = fleet.status("EdgeNode", serial)
    assert (status["phase"], status["version"], status["memory"]) == ("Online", "1.2.3", 2 << 30)
    assert status["addresses"][0]["address"] == "192.0.2.7"
    assert status["errors"] == ["port eth1: no DHCP answer"]
    until_true(fleet, "EdgeNode", serial, "Ready")
    assert fleet.condition("EdgeNode", serial, "ConfigApplied")["status"] in ("True", "False")


async def test_people_see_how_an_app_fares(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    uid = deploy(fleet, name, node.device.serial)
    await node.poll_until_new()
    box = device_info(time.time())
    box.dinfo.systemAdapter.status.add().ports.add(name="eth0", IPAddrs=["192.0.2.9"])
    await node.report(box)

    async def tell(state: info.ZSwState, seconds: int, error: str = "") -> None:
        message = info.ZInfoMsg(ztype=info.ZiApp)
        message.atTimeStamp.seconds = int(time.time()) + seconds
        message.ainfo.AppID, message.ainfo.state = uid, state
        if state == info.RUNNING:
            message.ainfo.network.add(devName="eth0", IPAddrs=["10.7.0.2"])
        if error:
            message.ainfo.appErr.add(description=error, severity=info.SEVERITY_ERROR)
        assert await node.report(message) == 201

    def state() -> str:
        return str(fleet.status("AppInstance", name).get("state"))

    await tell(info.DOWNLOAD_STARTED, 1)
    until("it downloads", lambda: state() == "DOWNLOADING")
    await tell(info.RUNNING, 2)
    until("it runs", lambda: state() == "RUNNING")
    assert fleet.status("AppInstance", name)["ips"][0]["ip"] == "10.7.0.2"
    url = until("its URL is shown", lambda: fleet.status("AppInstance", name).get("url"))
    assert url == "http://192.0.2.9:8080"
    until_true(fleet, "AppInstance", name, "Ready")

    def counted() -> tuple[int, int]:
        apps = fleet.status("EdgeNode", node.device.serial).get("apps", {})
        return apps.get("total", 0), apps.get("running", 0)

    until("it counts", lambda: counted() == (1, 1))
    await tell(info.ERROR, 3, "cannot start: no memory")
    until("it failed", lambda: state() == "FAILED")
    assert fleet.status("AppInstance", name)["errors"][0]["message"] == "cannot start: no memory"

    def told() -> dict[str, str]:
        events = fleet.client.list(fleet.client.type_of("Event"), "default")["items"]
        return {e["reason"]: e["type"] for e in events if e["involvedObject"].get("uid") == uid}

    until("the failure is told", lambda: "Failed" in told())
    assert (told()["Running"], told()["Failed"]) == ("Normal", "Warning")


async def test_people_read_logs_and_follow_them(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    uid = deploy(fleet, name, node.device.serial)
    now = time.time()
    path = f"/id/{node.node_id}/apps/instanceid/{uid}/newlogs"
    for number in range(3):
        lines = [f"line {number * 10 + i}" for i in range(10)]
        payload = bundle(lines, logs.AppHeader(name), now - 100 + number)
        assert (await node.send(path, payload)).status_code == 201
    client = fleet.client
    log = client.type_of("AppInstance").path("default", name, "log")
    wanted = [f"line {number}" for number in range(30)]
    assert list(client.lines(log, follow=False)) == wanted
    assert list(client.lines(log, follow=False, tailLines="12")) == wanted[-12:]
    assert list(client.lines(log, follow=False, sinceSeconds="50")) == []

    loop, follows = asyncio.get_running_loop(), asyncio.Event()

    def follow() -> list[str]:
        heard = []
        for line in client.lines(log, follow=True, tailLines="1"):
            loop.call_soon_threadsafe(follows.set)
            heard.append(line)
            if line == "the last":
                break
        return heard

    following = asyncio.create_task(asyncio.to_thread(follow))
    await follows.wait()
    payload = bundle(["one more", "the last"], logs.AppHeader(name), now)
    assert (await node.send(path, payload)).status_code == 201
    assert await following == ["line 29", "one more", "the last"]


async def test_people_read_a_node_s_own_log(fleet: FleetProcess, node: DeviceClient) -> None:
    payload = bundle(["all is well"], logs.NodeHeader(dev_id=node.node_id), time.time())
    assert (await node.send("/id/{id}/newlogs", payload)).status_code == 201
    client = fleet.client
    log = client.type_of("EdgeNode").path("default", node.device.serial, "log")
    (line,) = client.lines(log, follow=False)
    assert line.endswith("info tests: all is well")


async def test_people_read_what_a_node_and_an_app_use(
    fleet: FleetProcess, node: DeviceClient, name: str
) -> None:
    uid = deploy(fleet, name, node.device.serial)
    client = fleet.client
    of_node = client.type_of("EdgeNode").path("default", node.device.serial, "metrics")
    of_app = client.type_of("AppInstance").path("default", name, "metrics")
    with pytest.raises(Refused) as refused:
        client.read(of_node)
    assert refused.value.code == 404
    now = time.time()
    for seconds, used in ((-10, 1_000_000_000), (0, 6_000_000_000)):
        message: metrics.ZMetricMsg = metric(now + seconds, used)
        app = message.am.add(AppID=uid)
        app.cpu.total_ns = used // 10
        app.appMemory.usedMB, app.appMemory.allocatedMB = 7, 64
        app.network.add(rxBytes=11, txBytes=22)
        assert (await node.send("/id/{id}/metrics", message.SerializeToString())).status_code == 201
    seen = client.read(of_node)
    assert seen["cpuMillicores"] == pytest.approx(500)
    assert (seen["memoryBytes"], seen["memoryLimitBytes"]) == (100 << 20, 400 << 20)
    seen = client.read(of_app)
    assert seen["cpuMillicores"] == pytest.approx(50)
    assert (seen["memoryBytes"], seen["memoryLimitBytes"]) == (7 << 20, 64 << 20)
    assert (seen["receivedBytes"], seen["sentBytes"]) == (11, 22)


# -- when things go wrong --


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[FleetProcess]:
    """A fleet of its own, to be harmed."""
    process = FleetProcess(tmp_path)
    process.start()
    yield process
    process.stop()


async def test_kill_9_under_load_loses_nothing_acknowledged(mortal: FleetProcess) -> None:
    key = Onboarding()
    mortal.admit(key)
    clients = [DeviceClient(mortal.nodes, mortal.root_file, Device(f"sn-{n}")) for n in range(8)]
    for client in clients:
        await client.come_online(key)
    acknowledged: dict[str, set[str]] = {client.device.serial: set() for client in clients}
    began = time.time()

    async def ingest(client: DeviceClient) -> None:
        serial = client.device.serial
        for number in range(100_000):
            line = f"{serial} {number}"
            payload = bundle([line], logs.NodeHeader(dev_id=serial), began + number / 1_000)
            try:
                reply = await client.send("/id/{id}/newlogs", payload)
            except (OSError, httpx.HTTPError):
                return  # the fleet is dead
            assert reply.status_code == 201
            acknowledged[serial].add(line)

    ingesting = asyncio.gather(*(ingest(client) for client in clients))
    while sum(map(len, acknowledged.values())) < 400:
        await asyncio.sleep(0.01)
    mortal.kill()
    await ingesting
    mortal.start()
    api = mortal.client
    for client in clients:
        log = api.type_of("EdgeNode").path("default", client.device.serial, "log")
        kept = {line.rpartition(": ")[2] for line in api.lines(log, follow=False)}
        assert acknowledged[client.device.serial] <= kept
        client.config_hash = client.config_hash or "?"
        assert (await client.poll())[0] == 304, "token and config survive as well"
        await client.close()
    assert sum(map(len, acknowledged.values())) >= 400


async def test_a_full_disk_is_503_and_over_when_there_is_room(mortal: FleetProcess) -> None:
    key = Onboarding()
    mortal.admit(key)
    client = DeviceClient(mortal.nodes, mortal.root_file, Device("sn-full"))
    await client.come_online(key)
    unlimited = resource.prlimit(mortal.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(mortal.pid, resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
    statuses = []
    for number in range(400):
        body = device_info(time.time() + number, "x" * 5_000).SerializeToString()
        statuses.append((await client.send("/id/{id}/info", body)).status_code)
        if statuses[-3:] == [503] * 3:
            break
    assert set(statuses) == {201, 503}
    resource.prlimit(mortal.pid, resource.RLIMIT_FSIZE, unlimited)
    assert await client.report(device_info(time.time() + 1_000)) == 201
    assert (await client.poll())[0] in (200, 304)
    await client.close()


async def test_a_restarted_fleet_knows_its_nodes_and_their_configs(mortal: FleetProcess) -> None:
    key = Onboarding()
    mortal.admit(key)
    client = DeviceClient(mortal.nodes, mortal.root_file, Device("sn-again"))
    await client.come_online(key)
    for _ in range(2):
        mortal.stop()
        mortal.start()
        assert (await client.poll())[0] == 304
    await client.close()


async def test_a_second_fleet_on_the_same_data_does_not_start(
    mortal: FleetProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    second = FleetProcess(tmp_path_factory.mktemp("second"), mortal.data)
    with pytest.raises(AssertionError, match="another fleet uses"):
        second.start()
    second.stop()
    assert mortal.client.types()


def shown(fleet: FleetProcess, serial: str) -> Object:
    """The node's status once it has what it told; else nothing."""
    status = fleet.status("EdgeNode", serial)
    return status if status.get("hostname") else {}


async def test_a_hundred_nodes_at_once(fleet: FleetProcess, onboarding: Onboarding) -> None:
    keys = [new_key() for _ in range(10)]
    clients = [
        DeviceClient(fleet.nodes, fleet.root_file, Device(f"many-{n}", keys[n % 10]))
        for n in range(100)
    ]
    await asyncio.gather(*(client.come_online(onboarding) for client in clients))
    assert len({client.node_id for client in clients}) == 100

    async def live(client: DeviceClient) -> None:
        for number in range(5):
            assert (await client.poll())[0] == 304
            now = time.time() + number
            assert await client.report(device_info(now, client.device.serial)) == 201
            body = metric(now).SerializeToString()
            assert (await client.send("/id/{id}/metrics", body)).status_code == 201

    await asyncio.gather(*map(live, clients))
    for client in clients[::17]:
        serial = client.device.serial
        status = until("it is shown", partial(shown, fleet, serial))
        assert (status["hostname"], status["nodeID"]) == (serial, client.node_id)
    await asyncio.gather(*(client.close() for client in clients))
