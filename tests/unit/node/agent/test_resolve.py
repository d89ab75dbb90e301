"""A config becomes the kinds that the services read, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.model import kinds
from edgevirt.model.app import AppInstance, Resources
from edgevirt.model.baseos import BaseOs
from edgevirt.model.content import ContentFormat, ContentTree, Datastore, DatastoreType
from edgevirt.model.ids import (
    AppId,
    ContentTreeId,
    DatastoreId,
    NetworkInstanceId,
    NodeId,
    VolumeId,
)
from edgevirt.model.network import NetworkInstance, NetworkInstanceType
from edgevirt.model.node import CipherContext, DeviceConfig, GivenProperties, Port
from edgevirt.model.volume import Volume, VolumeOrigin
from edgevirt.node.agent.resolve import Resolve
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once

ID = "0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11"
CONFIG = DeviceConfig(
    id=NodeId(ID),
    datastores=(Datastore(id=DatastoreId(ID), type=DatastoreType.HTTPS, fqdn="https://a"),),
    content_trees=(
        ContentTree(id=ContentTreeId(ID), datastores=(), url="x", format=ContentFormat.RAW),
    ),
    volumes=(Volume(id=VolumeId(ID), origin=VolumeOrigin.BLANK, generation=3),),
    network_instances=(NetworkInstance(id=NetworkInstanceId(ID), type=NetworkInstanceType.LOCAL),),
    apps=(AppInstance(id=AppId(ID), name="a", resources=Resources(memory_kib=1)),),
    ports=(Port(name="eth0"),),
    base_os=BaseOs(content_tree=ContentTreeId(ID), version="2"),
    cipher_contexts=(CipherContext(id="c", controller_cert_hash=b"c", device_cert_hash=b"d"),),
)
THINGS = (
    (kinds.DATASTORE, ID),
    (kinds.CONTENT_TREE, ID),
    (kinds.VOLUME, f"{ID}#3"),
    (kinds.NETWORK_INSTANCE, ID),
    (kinds.APP_INSTANCE, ID),
    (kinds.PORT, "eth0"),
    (kinds.BASE_OS, "node"),
    (kinds.PORT_CONFIG, "zedagent"),
    (kinds.CIPHER_CONTEXT, "c"),
)


def test_every_part_of_a_config_reaches_its_kind_under_its_key() -> None:
    plan = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": CONFIG}})
    for kind, key in THINGS:
        assert list(plan.outputs[kind.name]) == [key], kind.name


def test_what_a_config_no_longer_has_is_withdrawn() -> None:
    first = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": CONFIG}})
    present = {kind: first.outputs[kind.name] for kind in Resolve.owns}
    empty = DeviceConfig(id=NodeId(ID))
    second = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": empty}, **present})
    for kind, _ in THINGS:
        assert not second.outputs[kind.name], kind.name


@pytest.mark.parametrize("mode", ["enabled", "ENABLED"])
def test_maintenance_keeps_everything_as_it_was_but_properties(mode: str) -> None:
    first = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": CONFIG}})
    present = {kind: first.outputs[kind.name] for kind in Resolve.owns}
    frozen = DeviceConfig(
        id=NodeId(ID), properties=(("maintenance.mode", mode), ("timer.config.interval", "7"))
    )
    second = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": frozen}, **present})
    for kind, key in THINGS:
        assert list(second.outputs[kind.name]) == [key], kind.name
    assert second.all(kinds.PROPERTY)["timer.config.interval"].value == "7"


def test_before_any_config_what_is_there_stays() -> None:
    first = plan_once(Resolve(), {kinds.DEVICE_CONFIG: {"node": CONFIG}})
    present = {kind: first.outputs[kind.name] for kind in Resolve.owns}
    second = plan_once(Resolve(), present)
    assert list(second.outputs[kinds.APP_INSTANCE.name]) == [ID]


def test_before_any_config_properties_are_those_that_the_node_was_given() -> None:
    resolve = Resolve()
    resolve.given = (("timer.config.interval", "11"), ("timer.metric.interval", "12"))
    bootstrap = GivenProperties(items=(("timer.metric.interval", "13"),))
    found = plan_once(resolve, {kinds.GIVEN_PROPERTIES: {"node": bootstrap}}).all(kinds.PROPERTY)
    values = {name: found[name].value for name in found if name.startswith("timer.")}
    assert values["timer.config.interval"] == "11"
    assert values["timer.metric.interval"] == "13", "what the controller signed counts for more"
    assert values["timer.boot.retry"] == "600"

    inputs: dict[Kind[Any], dict[str, Any]] = {
        kinds.GIVEN_PROPERTIES: {"node": bootstrap},
        kinds.DEVICE_CONFIG: {"node": DeviceConfig(id=NodeId(ID))},
    }
    found = plan_once(resolve, inputs).all(kinds.PROPERTY)
    assert found["timer.metric.interval"].value == "60", "a config is whole"


OTHER = "7c0c9c1e-52a4-4d2c-8a3a-5f5f0d5b9c12"
REPAIR = DeviceConfig(
    id=NodeId(ID),
    datastores=(Datastore(id=DatastoreId(OTHER), type=DatastoreType.HTTPS, fqdn="https://b"),),
    content_trees=(
        ContentTree(id=ContentTreeId(OTHER), datastores=(), url="y", format=ContentFormat.RAW),
    ),
    base_os=BaseOs(content_tree=ContentTreeId(OTHER), version="3"),
)
"""As a controller sends it that bars the node: no app, volume or port."""


def test_a_barred_node_keeps_all_that_it_has_and_gets_another_system() -> None:
    inputs: dict[Kind[Any], dict[str, Any]] = {
        kinds.DEVICE_CONFIG: {"node": CONFIG},
        kinds.REPAIR_CONFIG: {"node": REPAIR},
    }
    plan = plan_once(Resolve(), inputs)
    for kind, key in THINGS:
        assert key in plan.outputs[kind.name], kind.name
    assert plan.all(kinds.BASE_OS)["node"].version == "3"
    assert set(plan.all(kinds.CONTENT_TREE)) == {ID, OTHER}
    assert set(plan.all(kinds.DATASTORE)) == {ID, OTHER}


def test_a_barred_node_that_never_had_a_config_gets_a_system_all_the_same() -> None:
    plan = plan_once(Resolve(), {kinds.REPAIR_CONFIG: {"node": REPAIR}})
    assert plan.all(kinds.BASE_OS)["node"].version == "3"
    assert list(plan.all(kinds.CONTENT_TREE)) == [OTHER]


def test_what_a_refusal_says_of_anything_but_the_system_is_not_heeded() -> None:
    inputs: dict[Kind[Any], dict[str, Any]] = {
        kinds.DEVICE_CONFIG: {"node": DeviceConfig(id=NodeId(ID))},
        kinds.REPAIR_CONFIG: {"node": CONFIG},
    }
    plan = plan_once(Resolve(), inputs)
    for kind, _ in THINGS:
        if kind not in (kinds.DATASTORE, kinds.CONTENT_TREE, kinds.CIPHER_CONTEXT, kinds.BASE_OS):
            assert not plan.outputs[kind.name], kind.name
    assert plan.all(kinds.BASE_OS)["node"].version == "2"
