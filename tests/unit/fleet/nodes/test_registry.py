"""The machines in memory: found by what they sign with, forgotten when they go."""

from __future__ import annotations

import os
import uuid

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.nodes.devices import Device
from edgevirt.fleet.nodes.registry import NO_HASH, UNKNOWN, Registry, parse_node
from edgevirt.wire import signatures

KEYS = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(4)]


def token(node: bytes, attested: int) -> bytes:
    return b"%b:%d" % (node.hex().encode(), attested)


def device(number: int, **changes: object) -> Device:
    made = Device(
        node=uuid.UUID(int=number + 1).bytes,
        cert_hash=os.urandom(32),
        key=signatures.pack_key(KEYS[number % 4]),
        edge_node=f"ns/node-{number}",
        uid=f"uid-{number}",
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def registry() -> Registry:
    return Registry(token)


def test_each_machine_is_found_by_all_its_names(registry: Registry) -> None:
    machines = [device(number) for number in range(100)]
    for machine in machines:
        registry.add(machine)
    for number, machine in enumerate(machines):
        row = registry.find(machine.cert_hash)
        assert row == registry.find(machine.cert_hash[:16])
        assert row == registry.find_machine(machine.node)
        assert row == registry.find_node(machine.edge_node)
        assert registry.node(row) == machine.node
        assert registry.name(row) == machine.edge_node
        assert registry.key(row) == KEYS[number % 4]
    assert len(registry) == 100


def test_half_a_hash_that_fits_is_not_enough(registry: Registry) -> None:
    machine = device(0)
    registry.add(machine)
    assert registry.find(machine.cert_hash[:16] + bytes(16)) == UNKNOWN
    assert registry.find(machine.cert_hash[:15]) == UNKNOWN
    assert registry.find(b"") == UNKNOWN


def test_a_token_is_given_for_attestations_alone(registry: Registry) -> None:
    machine = device(0)
    row = registry.add(machine)
    assert registry.token(row) == b""
    registry.add(msgspec.structs.replace(machine, attested=3))
    assert registry.token(row) == token(machine.node, 3)


def test_a_machine_that_went_is_gone_by_all_its_names(registry: Registry) -> None:
    machine, other = device(0, attested=1), device(1)
    row = registry.add(machine)
    registry.add(other)
    registry.remove(machine)
    assert registry.find(machine.cert_hash) == UNKNOWN
    assert registry.find_machine(machine.node) == UNKNOWN
    assert registry.find_node(machine.edge_node) == UNKNOWN
    assert registry.token(row) == b"", "who still works with the row gets nothing for it"
    assert registry.find(other.cert_hash) >= 0
    registry.remove(machine)
    assert len(registry) == 1


def test_rows_rest_before_another_machine_gets_them(registry: Registry) -> None:
    row = registry.add(device(0))
    for number in range(3_000):
        machine = device(number)
        assert number > 900 or registry.add(machine) != row
        registry.remove(machine)
    late = [registry.add(device(number)) for number in range(5_000)]
    assert len(set(late)) == len(late)
    for number, row in enumerate(late):
        assert registry.node(row) == uuid.UUID(int=number + 1).bytes


def test_an_edge_node_that_got_another_machine_leads_to_the_new_one(registry: Registry) -> None:
    old, new = device(0), device(1, edge_node="ns/node-0")
    registry.add(old)
    row = registry.add(new)
    assert registry.find_node("ns/node-0") == row
    registry.remove(old)
    assert registry.find_node("ns/node-0") == row


def test_a_new_exchange_key_makes_the_config_be_looked_up_again(registry: Registry) -> None:
    machine = device(0)
    row = registry.add(machine)
    registry.set_config_hash(row, b"h" * 43)
    registry.add(machine)
    assert registry.config_hash(row) == b"h" * 43
    registry.add(msgspec.structs.replace(machine, exchange_hash=b"x" * 16))
    assert registry.config_hash(row) == NO_HASH
    assert registry.exchange(row) == b"x" * 16


def test_taking_a_config_is_told_once(registry: Registry) -> None:
    told: list[int] = []
    registry.on_current = told.append
    row = registry.add(device(0))
    for _ in range(3):
        registry.note_current(row)
    assert told == [row]
    registry.set_config_hash(row, b"h" * 43)
    registry.note_current(row)
    assert told == [row, row]


def test_a_change_for_all_makes_every_config_be_looked_up_again(registry: Registry) -> None:
    rows = [registry.add(device(number)) for number in range(3)]
    for row in rows:
        registry.set_config_hash(row, b"h" * 43)
    registry.forget_config_hashes()
    assert {registry.config_hash(row) for row in rows} == {NO_HASH}


def test_when_machines_were_heard_of_survives(registry: Registry) -> None:
    first, second = (registry.add(device(number)) for number in range(2))
    registry.touch(first, 100.0)
    assert registry.seen_since(50.0) == [(first, 100.0)]
    registry.load_seen([(registry.node(first), 90.0), (registry.node(second), 70.0), (b"?", 1.0)])
    assert (registry.seen(first), registry.seen(second)) == (100.0, 70.0)


def test_more_keys_than_are_kept_parsed_do_no_harm() -> None:
    registry = Registry(token, parsed_keys=2)
    rows = [registry.add(device(number)) for number in range(4)]
    for _ in range(2):
        for number, row in enumerate(rows):
            assert registry.key(row) == KEYS[number]


@pytest.mark.parametrize(
    "text",
    [b"", b"x" * 36, b"11111111-2222-3333-4444-55555555555", b"1" * 36, b"-" * 36, b"\xff" * 36],
)
def test_what_is_no_uuid_is_no_node(text: bytes) -> None:
    assert parse_node(text) is None


def test_uuids_are_read_in_any_case() -> None:
    node = uuid.uuid4()
    assert parse_node(str(node).encode()) == node.bytes
    assert parse_node(str(node).upper().encode()) == node.bytes
