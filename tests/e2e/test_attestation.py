"""A node with a security module gets its config and its keys for what it proves, and nothing else.

Mostly the module is one in software that signs as a real one does; the fleet is a process.
"""

from __future__ import annotations

import gzip
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.client.resources import Object
from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.protocol import KeyRole, SecurityModule
from edgevirt.wire import certificates
from edgevirt.wire.event_log import Event
from edgevirt.wire.messages import attest, certs
from tests.parts.device_client import Device, DeviceClient, Onboarding, new_key
from tests.parts.fleet_process import FleetProcess, until
from tests.parts.measured import SoftwareTpm, boot, event, pack_log
from tests.parts.swtpm import swtpm

pytestmark = pytest.mark.timeout(120)

OWN = {13: b"root image 1", 14: b"config"}
MEASURED = (4, 8, 9, 13)
SUCCESS = attest.Z_ATTEST_RESPONSE_CODE_SUCCESS
FAILED = attest.Z_ATTEST_RESPONSE_CODE_QUOTE_FAILED
UNKNOWN_FIELD = b"\xba\x3e\x05later"
"""A field that this version of the API does not have."""


@pytest.fixture
def tpm() -> SoftwareTpm:
    return SoftwareTpm(boot(), OWN)


@pytest.fixture
def label() -> str:
    """A label of the test's own node: one fleet serves all tests."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def node(
    fleet: FleetProcess, onboarding: Onboarding, tpm: SoftwareTpm, label: str
) -> AsyncIterator[DeviceClient]:
    serial = f"sn-{uuid.uuid4().hex[:12]}"
    client = DeviceClient(fleet.nodes, fleet.root_file, Device(serial, tpm=tpm))
    await client.come_online(onboarding)
    change = {"metadata": {"labels": {"test": label}}}
    kind = fleet.client.type_of("EdgeNode")
    fleet.client.patch(kind, "default", serial, change, style="merge")
    yield client
    await client.close()


@pytest.fixture
def policies(fleet: FleetProcess) -> Iterator[list[str]]:
    """Names of policies that end with the test."""
    made: list[str] = []
    yield made
    for name in made:
        fleet.delete("AttestationPolicy", name)


def demand(
    fleet: FleetProcess, policies: list[str], label: str, tpm: SoftwareTpm, **more: Any
) -> None:
    """A policy of this name for the node with this label: what `tpm` has now."""
    spec = {
        "nodeSelector": {"matchLabels": {"test": label}},
        "accepted": [{"name": "os-1", "registers": tpm.hex(*MEASURED)}],
        **more,
    }
    policies.append(label)
    fleet.create("AttestationPolicy", label, spec)


def ref(name: str) -> Object:
    return {"name": name}


def status(fleet: FleetProcess, node: DeviceClient) -> Object:
    return fleet.status("EdgeNode", node.device.serial)


async def test_a_genuine_quote_is_shown_for_what_it_is(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm
) -> None:
    shown = status(fleet, node)
    assert shown["trust"] == "Attested"
    proven = shown["attestation"]
    assert proven["registers"]["13"] == tpm.registers[13].hex()
    assert proven["log"].startswith("13 events; they explain the registers 0, 1, 2")
    assert proven["firmware"] == "ACME-1.0"
    condition = fleet.condition("EdgeNode", node.device.serial, "Attested")
    assert "no AttestationPolicy" in condition["message"]


async def test_what_was_quoted_can_be_read_for_an_audit(
    fleet: FleetProcess, node: DeviceClient
) -> None:
    kind = fleet.client.type_of("EdgeNode")
    path = kind.object_path("default", node.device.serial, "attestation")
    kept: Object = fleet.client.read(path)
    assert "EFI variable SecureBoot" in {event["what"] for event in kept["events"]}
    assert {"register", "digest", "what"} <= set(kept["events"][0])
    assert kept["quote"]
    assert kept["registers"]["0"]


async def test_a_demand_that_the_node_meets_changes_nothing_for_it(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, tpm)
    until("it is judged", lambda: status(fleet, node)["attestation"].get("acceptedAs") == "os-1")
    assert (await node.poll())[0] == 304
    assert set(status(fleet, node)["attestation"]["pinned"]) == {"0", "1", "2", "3", "7", "14"}


async def test_a_tampered_image_gets_no_config_and_no_key(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, tpm)
    await node.attest()
    assert await node.escrow(b"vault key") == 201
    assert [key.key for key in (await node.attest()).keys] == [b"vault key"]
    tpm.reset(boot(), {**OWN, 13: b"tampered"})
    node.token = b""
    assert (await node.poll())[0] == 403
    answer = await node.attest()
    assert (answer.response, answer.integrity_token, len(answer.keys)) == (FAILED, b"", 0)
    assert (await node.poll())[0] == 403
    shown = status(fleet, node)
    assert (shown["trust"], shown["attestation"]["barred"]) == ("Untrusted", True)
    (difference,) = shown["attestation"]["differences"]
    assert difference["register"] == 13
    assert difference["expected"] != [difference["got"]]
    condition = fleet.condition("EdgeNode", node.device.serial, "Attested")
    assert "register 13 differs from the state os-1" in condition["message"]
    tpm.reset(boot(), OWN)
    assert [key.key for key in (await node.attest()).keys] == [b"vault key"]
    assert (await node.poll())[0] in (200, 304)


async def test_a_barred_node_is_offered_the_system_that_is_wanted_for_it_and_nothing_else(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, tpm)
    await node.attest()
    fleet.create("Secret", f"{label}-s", {}, stringData={"username": "u", "password": "p"})
    private = {
        "type": "OCIRegistry",
        "url": "docker://r",
        "credentialsSecretRef": ref(f"{label}-s"),
    }
    fleet.create("Datastore", f"{label}-apps", private)
    fleet.create("Datastore", f"{label}-os", {"type": "HTTPS", "url": "https://files.example"})
    image = {"datastoreRefs": [ref(f"{label}-apps")], "reference": "app:1"}
    fleet.create("Image", label, image)
    fleet.create("App", label, {"image": label})
    fleet.create("AppInstance", label, {"app": label, "edgeNode": node.device.serial})
    tpm.reset(boot(), {**OWN, 13: b"tampered"})
    assert (await node.attest()).response == FAILED
    assert await node.offered() is None
    system = {
        "version": "edgevirt-2-kvm-amd64",
        "datastoreRefs": [ref(f"{label}-os")],
        "reference": "os/2.img",
        "sha256": "a" * 64,
        "maxSize": "100Mi",
    }
    fleet.create("OSImage", label, system)
    fleet.patch("EdgeNode", node.device.serial, {"os": {"image": label}})
    offered = None
    while offered is None:  # the fleet takes notice of what it was told in a moment
        offered = await node.offered()
    assert offered.baseos.base_os_version == "edgevirt-2-kvm-amd64"
    assert [tree.URL for tree in offered.contentInfo] == ["os/2.img"]
    assert [store.fqdn for store in offered.datastores] == ["https://files.example"]
    beside = {found.name for found, _ in offered.ListFields()}
    assert not beside & {"apps", "volumes", "networkInstances", "cipherContexts", "configItems"}
    node.token = b""
    tpm.reset(boot(), OWN)
    assert (await node.attest()).response == SUCCESS
    received = await node.poll_until_new()
    assert received.baseos.base_os_version == "edgevirt-2-kvm-amd64"
    assert len(received.apps) == 1


async def test_a_demand_that_the_node_does_not_meet_ends_its_token_at_once(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    assert (await node.poll())[0] == 304
    other = SoftwareTpm(boot("2"), OWN)
    demand(fleet, policies, label, other)
    until("it is untrusted", lambda: status(fleet, node)["trust"] == "Untrusted")
    assert (await node.poll())[0] == 403
    assert (await node.attest()).response == FAILED
    learned = [
        {"name": "os-2", "registers": other.hex(*MEASURED)},
        {"name": "os-1", "registers": tpm.hex(*MEASURED)},
    ]
    fleet.patch("AttestationPolicy", label, {"accepted": learned})
    # The policy is read by the fleet in a moment; a node tries again every 15 s.
    for _ in range(50):
        if (await node.attest()).response == SUCCESS:
            break
    assert status(fleet, node)["attestation"]["acceptedAs"] == "os-1"
    assert (await node.poll())[0] in (200, 304)


async def test_firmware_that_changed_is_let_in_by_whoever_accepts_it(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, tpm)
    assert (await node.attest()).response == SUCCESS
    tpm.reset(boot(secure_boot=False), OWN)
    assert (await node.attest()).response == FAILED
    (difference,) = status(fleet, node)["attestation"]["differences"]
    assert (difference["register"], "SecureBoot" in difference["why"]) == (7, True)
    fleet.patch("EdgeNode", node.device.serial, {"trustedRegisters": {"7": [difference["got"]]}})
    assert (await node.attest()).response == SUCCESS
    fleet.patch("EdgeNode", node.device.serial, {"trustedRegisters": None})
    assert (await node.attest()).response == SUCCESS


async def test_a_report_changes_nothing_but_what_people_see(
    fleet: FleetProcess, node: DeviceClient, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, SoftwareTpm(boot("2"), OWN), mode="Report")
    until("it is shown", lambda: status(fleet, node)["trust"] == "Untrusted")
    assert (await node.poll())[0] in (200, 304)
    assert (await node.attest()).response == SUCCESS


async def test_a_node_without_a_security_module_is_refused_where_one_is_required(
    fleet: FleetProcess, onboarding: Onboarding, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    serial = f"sn-{uuid.uuid4().hex[:12]}"
    client = DeviceClient(fleet.nodes, fleet.root_file, Device(serial))
    await client.come_online(onboarding)
    assert fleet.status("EdgeNode", serial)["trust"] == "SoftwareKey"
    kind, change = fleet.client.type_of("EdgeNode"), {"metadata": {"labels": {"test": label}}}
    fleet.client.patch(kind, "default", serial, change, style="merge")
    demand(fleet, policies, label, tpm, requireTPM=True)
    until("it is untrusted", lambda: status(fleet, client)["trust"] == "Untrusted")
    assert (await client.poll())[0] == 403
    assert (await client.attest()).response == FAILED
    await client.close()


# -- quotes that prove nothing --


async def nonce_of(node: DeviceClient) -> bytes:
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_NONCE)
    return (await node.ask(request)).nonce.nonce


async def test_an_old_quote_proves_nothing(node: DeviceClient, tpm: SoftwareTpm) -> None:
    old = tpm.quote(await nonce_of(node))
    assert (await node.show(old)).response == SUCCESS
    await nonce_of(node)
    answer = await node.show(old)
    assert answer.response == attest.Z_ATTEST_RESPONSE_CODE_NONCE_MISMATCH
    assert answer.integrity_token == b""


async def test_somebody_else_s_quote_bars_the_node(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm
) -> None:
    assert await node.escrow(b"vault key") == 201
    thief = SoftwareTpm(boot(), OWN)
    answer = await node.show(thief.quote(await nonce_of(node)))
    assert (answer.response, len(answer.keys)) == (FAILED, 0)
    assert (await node.poll())[0] == 403
    assert status(fleet, node)["trust"] == "Untrusted"
    assert (await node.attest()).response == SUCCESS


async def test_changed_values_and_an_empty_quote_are_refused(
    node: DeviceClient, tpm: SoftwareTpm
) -> None:
    changed = tpm.quote(await nonce_of(node))
    changed.pcr_values[13].value = bytes(32)
    assert (await node.show(changed)).response == FAILED
    await nonce_of(node)
    assert (await node.show(attest.ZAttestQuote())).response == FAILED


async def test_a_log_that_cannot_be_read_is_told_and_harms_nothing(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm
) -> None:
    for log in (b"", b"junk", bytes(50_000)):
        assert (await node.show(tpm.quote(await nonce_of(node), log=log))).response == SUCCESS
    assert "cannot read event log" in status(fleet, node)["attestation"]["log"]


async def test_a_certificate_that_its_identity_did_not_issue_is_refused(
    node: DeviceClient, tpm: SoftwareTpm
) -> None:
    stranger = Device("stranger", new_key(), tpm)
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=stranger.certs())
    reply: httpx.Response = await node.send("/id/{id}/attest", request.SerializeToString())
    assert reply.status_code == 422


async def test_a_machine_that_lost_its_disk_names_the_keys_of_its_tpm_anew(
    node: DeviceClient, tpm: SoftwareTpm
) -> None:
    again = Device(node.device.serial, node.device.key, tpm)
    quote = certificates.describe(again.quote_pem, certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING)
    assert quote.cert != node.device.quote_pem
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=[quote])
    assert (await node.ask(request)).respType == attest.ATTEST_RESP_CERT
    other = Device(node.device.serial, node.device.key, SoftwareTpm(boot(), OWN))
    thief = certificates.describe(other.quote_pem, certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING)
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=[thief])
    assert (await node.send("/id/{id}/attest", request.SerializeToString())).status_code == 403


async def test_the_maker_of_a_tpm_may_have_issued_its_endorsement(
    node: DeviceClient, tpm: SoftwareTpm
) -> None:
    maker = Device("maker")
    role = certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA
    endorsement = certificates.describe(maker.exchange_pem, role)
    sent = [*node.device.certs(), endorsement]
    request = attest.ZAttestReq(reqType=attest.ATTEST_REQ_CERT, certs=sent)
    assert (await node.ask(request)).respType == attest.ATTEST_RESP_CERT


# -- keys --


async def test_vault_keys_come_back_as_they_were_left(node: DeviceClient) -> None:
    left = attest.AttestVolumeKey(key_type=attest.ATTEST_VOLUME_KEY_TYPE_VSK, key=bytes(range(256)))
    left.MergeFromString(UNKNOWN_FIELD)
    request = attest.ZAttestReq(reqType=attest.Z_ATTEST_REQ_TYPE_STORE_KEYS)
    request.storage_keys.integrity_token = node.token
    request.storage_keys.keys.append(left)
    answer = await node.ask(request)
    assert answer.storage_keys_resp.response == (attest.ATTEST_STORAGE_KEYS_RESPONSE_CODE_SUCCESS)
    (back,) = (await node.attest()).keys
    assert back.SerializeToString(deterministic=True) == left.SerializeToString(deterministic=True)


async def test_a_node_that_cannot_quote_leaves_no_key(
    fleet: FleetProcess, onboarding: Onboarding
) -> None:
    client = DeviceClient(fleet.nodes, fleet.root_file, Device(f"sn-{uuid.uuid4().hex[:12]}"))
    await client.come_online(onboarding)
    assert await client.escrow(b"vault key") == 403
    assert len((await client.attest()).keys) == 0
    role = certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING
    assert role not in {cert.type for cert in client.device.certs()}
    await client.close()


async def test_a_restart_of_the_fleet_forgets_no_verdict(
    fleet: FleetProcess, node: DeviceClient, tpm: SoftwareTpm, label: str, policies: list[str]
) -> None:
    demand(fleet, policies, label, tpm)
    assert (await node.attest()).response == SUCCESS
    assert await node.escrow(b"vault key") == 201
    fleet.kill()
    fleet.start()
    assert (await node.poll())[0] in (200, 304)
    tpm.reset(boot(secure_boot=False), OWN)
    answer = await node.attest()
    assert (answer.response, len(answer.keys)) == (FAILED, 0)
    fleet.kill()
    fleet.start()
    assert (await node.poll())[0] == 403


# -- a TPM of its own --


class Swtpm2:
    """What the node's own code makes of a TPM 2.0: quotes, with a log of what was extended."""

    def __init__(self, module: SecurityModule) -> None:
        self._module = module
        self._events: list[Event] = []

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._module.public_key(KeyRole.QUOTE)

    def extend(self, one: Event) -> None:
        self._module.extend(one.register, one.digest)
        self._events.append(one)

    def hex(self, *numbers: int) -> dict[str, list[str]]:
        return {str(n): [v.hex()] for n, v in self._module.registers(numbers).items()}

    def quote(self, nonce: bytes) -> attest.ZAttestQuote:
        signed = self._module.quote(nonce, range(16))
        message = attest.ZAttestQuote(
            attestData=signed.attest,
            signature=signed.signature,
            tpm_binary_event_log=gzip.compress(pack_log(self._events)),
        )
        for number, value in signed.values.items():
            message.pcr_values.add(index=number, hash_algo=attest.TPM_HASH_ALGO_SHA256, value=value)
        return message


async def test_a_real_module_s_quotes_are_judged_alike(
    fleet: FleetProcess, onboarding: Onboarding, tmp_path: Path, policies: list[str], label: str
) -> None:
    with swtpm(tmp_path) as machine:
        module = open_tpm(machine.socket)
        assert module is not None
        tpm = Swtpm2(module)
        for one in boot():
            tpm.extend(one)
        serial = f"sn-{uuid.uuid4().hex[:12]}"
        node = DeviceClient(fleet.nodes, fleet.root_file, Device(serial, tpm=tpm))
        await node.come_online(onboarding)
        assert status(fleet, node)["attestation"]["log"].startswith("13 events; they explain")
        kind, change = fleet.client.type_of("EdgeNode"), {"metadata": {"labels": {"test": label}}}
        fleet.client.patch(kind, "default", serial, change, style="merge")
        accepted = [{"name": "os-1", "registers": tpm.hex(4, 8, 9)}]
        selector = {"matchLabels": {"test": label}}
        policies.append(label)
        spec = {"nodeSelector": selector, "accepted": accepted}
        fleet.create("AttestationPolicy", label, spec)
        until("it is judged", lambda: status(fleet, node)["attestation"].get("acceptedAs"))
        assert (await node.attest()).response == SUCCESS
        tpm.extend(event(9, b"/boot/initrd.img\0"))
        assert (await node.attest()).response == FAILED
        (difference,) = status(fleet, node)["attestation"]["differences"]
        assert difference["why"] == "/boot/initrd.img was measured in addition"
        await node.close()
        module.close()
