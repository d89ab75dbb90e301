"""Configs become nouns and messages again, and nothing is lost on the way."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevirt.model.app import AppInstance, Resources, VolumeRef
from edgevirt.model.baseos import BaseOs
from edgevirt.model.content import CipherBlock, ContentFormat, ContentTree, Datastore, DatastoreType
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.hardware import Adapter
from edgevirt.model.ids import (
    AppId,
    ContentTreeId,
    DatastoreId,
    NetworkInstanceId,
    NodeId,
    VolumeId,
)
from edgevirt.model.network import (
    Acl,
    AclAction,
    AppInterface,
    NetworkInstance,
    NetworkInstanceType,
)
from edgevirt.model.node import CipherContext, DeviceConfig, Port
from edgevirt.model.ports import Dhcp, PortNetwork, Proxy, ProxyServer
from edgevirt.model.snapshot import SnapshotName, SnapshotWish
from edgevirt.model.volume import Volume, VolumeOrigin
from edgevirt.wire.convert import device, ports
from edgevirt.wire.convert.rest import ConvertError
from edgevirt.wire.messages import common, config

ID = "0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11"
OTHER = "5b6f2c1e-0a43-4d7c-8d7e-3f5a1c2b4d99"
UNKNOWN_FIELD = b"\xfa\xf1\x04\x03new"
"""Field 9999, as a peer may send that has a newer definition."""

# -- messages of every shape that the definitions allow -----------------------------------------

Limits = dict[int, tuple[int, int]]
_INTEGERS: Limits = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_BOOL: (0, 1),
}


def a_text(random: Random) -> str:
    return "".join(random.choices("ab /äﬀ\0", k=random.randrange(4)))


def scalar(random: Random, field: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_STRING:
        return a_text(random)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.randrange(4))
    return random.randint(*_INTEGERS[field.type])


def fill(random: Random, message: Message, depth: int) -> None:
    """Sets some of the fields, and now and then one that the definitions don't have."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.4:
            continue
        nested = field.message_type
        if nested is not None and nested.GetOptions().map_entry:
            getattr(message, field.name).update({a_text(random): "b", "c": "d"})
        elif field.is_repeated:
            for _ in range(random.randint(1, 2)):
                if nested is None:
                    getattr(message, field.name).append(scalar(random, field))
                elif depth:
                    fill(random, getattr(message, field.name).add(), depth - 1)
        elif nested is None:
            setattr(message, field.name, scalar(random, field))
        elif depth:
            getattr(message, field.name).SetInParent()
            fill(random, getattr(message, field.name), depth - 1)
    if random.random() < 0.3:
        message.MergeFromString(UNKNOWN_FIELD)


@st.composite
def configs(draw: Callable[[Any], Any]) -> config.EdgeDevConfig:
    """A config as a controller that follows the rules writes it."""
    random = Random(draw(st.integers(0, 2**32)))
    message = config.EdgeDevConfig()
    fill(random, message, 4)
    message.id.uuid = ID
    message.config_timestamp.nanos = random.randrange(10**9)
    message.config_timestamp.seconds = random.randrange(2**33)
    tidy_contents(random, message)
    tidy_apps(random, message)
    tidy_networks(random, message)
    if message.HasField("baseos"):
        tidy_base_os(message)
    return message


def an_id(random: Random) -> str:
    return str(uuid.UUID(bytes=random.randbytes(16)))


def tidy_contents(random: Random, message: config.EdgeDevConfig) -> None:
    for store in message.datastores:
        store.id = an_id(random)
        store.dType = random.choice([config.DsHttps, config.DsContainerRegistry])
    for tree in message.contentInfo:
        tree.uuid = an_id(random)
        del tree.ds_ids_list[:]
        tree.ds_ids_list.extend([ID, OTHER][: random.randint(0, 2)])
        tree.dsId = tree.ds_ids_list[0] if tree.ds_ids_list else ""
        tree.sha256 = "ab" * random.randint(0, 2)
        tree.iformat = random.choice([config.RAW, config.CONTAINER])
    for volume in message.volumes:
        volume.uuid = an_id(random)
        volume.origin.type = random.choice([config.VCOT_BLANK, config.VCOT_DOWNLOAD])
        volume.origin.downloadContentTreeID = random.choice(["", ID])
    for context in message.cipherContexts:
        context.hashScheme = common.HASH_ALGORITHM_SHA256_32BYTES


def tidy_base_os(message: config.EdgeDevConfig) -> None:
    message.baseos.content_tree_uuid = ID


def tidy_apps(random: Random, message: config.EdgeDevConfig) -> None:
    for app in message.apps:
        app.uuidandversion.uuid = an_id(random)
        app.fixedresources.vcpus = random.randint(1, 8)
        for ref in app.volumeRefList:
            ref.uuid = an_id(random)
        for adapter in app.interfaces:
            adapter.networkId = random.choice(["", ID])
            adapter.macAddress = random.choice(["", "02:16:3e:00:00:01"])
            adapter.addr = random.choice(["", "10.1.0.7"])
            for rule in adapter.acls:
                del rule.actions[1:]
                for action in rule.actions:
                    chosen = random.choice(["", "drop", "limit", "portmap"])
                    action.drop = chosen == "drop"
                    action.limit = chosen == "limit"
                    action.portmap = chosen == "portmap"


def tidy_networks(random: Random, message: config.EdgeDevConfig) -> None:
    for instance in message.networkInstances:
        instance.uuidandversion.uuid = an_id(random)
        instance.instType = random.choice([config.ZnetInstSwitch, config.ZnetInstLocal])
        instance.ipType = config.CryptoIPV6
    for number, adapter in enumerate(message.systemAdapterList):
        adapter.name = f"port{number}"
        adapter.networkUUID = ID
        adapter.lowerLayerName = f"port{random.randrange(3)}"
    for io in message.deviceIoList:
        io.logicallabel = f"port{random.randrange(3)}"
        for key in list(io.phyaddrs):
            del io.phyaddrs[key]
        io.phyaddrs.update(random.choice([{"serial": "9"}, {"ifname": "eth1", "pcilong": "x"}]))


def sort_devices(message: config.EdgeDevConfig) -> config.EdgeDevConfig:
    """Physical devices are a set: their order says nothing."""
    found = sorted(message.deviceIoList, key=lambda io: io.SerializeToString(deterministic=True))
    del message.deviceIoList[:]
    message.deviceIoList.extend(found)
    return message


@settings(deadline=None, max_examples=60)
@given(configs())
def test_a_config_comes_back_with_every_field_known_or_not(message: config.EdgeDevConfig) -> None:
    back = device.to_message(device.from_message(message))
    assert sort_devices(back) == sort_devices(message)


@settings(deadline=None, max_examples=40)
@given(configs())
def test_nouns_of_a_config_survive_the_way_through_the_store(message: config.EdgeDevConfig) -> None:
    noun = device.from_message(message)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(noun), type=DeviceConfig)
    assert stored == noun
    assert device.from_message(device.to_message(stored)) == noun


# -- nouns as a fleet makes them, with nothing in their rests ------------------------------------

APP = AppInstance(
    id=AppId(ID),
    name="nginx",
    version="3",
    snapshot=SnapshotWish(
        most=2, names=(SnapshotName(id=OTHER, type=1),), active=OTHER, rollback_counter=4
    ),
    resources=Resources(memory_kib=65_536, vcpus=2, mode=VirtualizationMode.NOHYPER),
    volumes=(VolumeRef(volume=VolumeId(OTHER), generation=2, mount_dir="/data"),),
    interfaces=(
        AppInterface(
            name="eth0",
            network=NetworkInstanceId(OTHER),
            acls=(
                Acl(id=1, matches=(("ip", "0.0.0.0/0"),)),
                Acl(
                    id=2,
                    matches=(("protocol", "tcp"), ("lport", "8080")),
                    action=AclAction.PORTMAP,
                    app_port=80,
                ),
                Acl(id=3, matches=(("host", "example.com"),), action=AclAction.DROP),
                Acl(
                    id=4,
                    matches=(("ip", "10.0.0.0/8"),),
                    action=AclAction.LIMIT,
                    limit_rate=5,
                    limit_unit="second",
                    limit_burst=9,
                ),
            ),
        ),
    ),
    adapters=(Adapter(name="USB1", type=13),),
    restart_counter=4,
    purge_counter=5,
    user_data="Rk9PPWJhcg==",
    cipher=CipherBlock(
        context_id="ctx", initial_value=b"i" * 16, data=b"secret", clear_sha256=b"h" * 32
    ),
    delay=7,
    disable_logs=True,
    profiles=("day", "night"),
)

WHOLE = DeviceConfig(
    id=NodeId(ID),
    version="12",
    timestamp=1_700_000_000.25,
    epoch=3,
    properties=(("timer.config.interval", "30"), ("app.allow.vnc", "true")),
    reboot_counter=0,
    shutdown_counter=2,
    datastores=(
        Datastore(
            id=DatastoreId(OTHER),
            type=DatastoreType.CONTAINER_REGISTRY,
            fqdn="docker://registry.example",
            api_key="user",
            password="word",
            ca_pem=("-----BEGIN CERTIFICATE-----\n",),
        ),
    ),
    content_trees=(
        ContentTree(
            id=ContentTreeId(ID),
            datastores=(DatastoreId(OTHER), DatastoreId(ID)),
            url="library/nginx:1",
            format=ContentFormat.CONTAINER,
            sha256="ab" * 32,
            max_size=1_000,
            name="nginx",
            generation=1,
        ),
    ),
    volumes=(
        Volume(
            id=VolumeId(OTHER),
            origin=VolumeOrigin.DOWNLOAD,
            generation=2,
            content_tree=ContentTreeId(ID),
            max_size=10,
            readonly=True,
            clear_text=True,
            name="root",
        ),
        Volume(id=VolumeId(ID), origin=VolumeOrigin.BLANK, max_size=1 << 30),
    ),
    network_instances=(
        NetworkInstance(
            id=NetworkInstanceId(OTHER),
            type=NetworkInstanceType.LOCAL,
            name="local",
            port="uplink",
            subnet="10.1.0.0/24",
            gateway="10.1.0.1",
            dhcp_first="10.1.0.2",
            dhcp_last="10.1.0.200",
            domain="edge.example",
            ntp="ntp.example",
            dns=("9.9.9.9",),
            static_names=(("db", ("10.1.0.9",)),),
            mtu=1400,
        ),
        NetworkInstance(
            id=NetworkInstanceId(ID), type=NetworkInstanceType.SWITCH, flow_log=True, activate=False
        ),
    ),
    apps=(APP,),
    ports=(
        Port(name="eth0", ifname="eth0", cost=1),
        Port(name="mgmt", ifname="enp3s0", uplink=False),
        Port(name="bond0", network=OTHER),
        Port(name="wifi", ifname="wlan0", type=5, network=OTHER, address="10.9.0.2"),
    ),
    networks=(
        PortNetwork(
            id=OTHER,
            dhcp=Dhcp.STATIC,
            subnet="10.9.0.0/24",
            gateway="10.9.0.1",
            mtu=1400,
            domain="shop.example",
            dns=("9.9.9.9",),
            ntp=("a.example", "b.example"),
            proxy=Proxy(
                servers=(ProxyServer(protocol=1, server="proxy.example", port=3128),),
                exceptions="10.0.0.0/8",
                pac_url="http://wpad/",
            ),
        ),
        PortNetwork(id=ID, subnet="2001:db8::/64", proxy=Proxy(discover=True, pac="js")),
    ),
    base_os=BaseOs(
        content_tree=ContentTreeId(ID), version="1.2-kvm-amd64", activate=True, retry_counter=0
    ),
    cipher_contexts=(
        CipherContext(id="ctx", controller_cert_hash=b"c" * 16, device_cert_hash=b"d" * 16),
    ),
    controller_cert_hash="hash",
    device_name="edge-1",
    project_name="shop",
)


def test_nouns_with_empty_rests_come_back_equal() -> None:
    wire = config.EdgeDevConfig.FromString(device.to_message(WHOLE).SerializeToString())
    assert device.from_message(wire) == WHOLE


def test_a_base_os_keeps_what_a_newer_controller_says_of_it() -> None:
    message = config.EdgeDevConfig()
    message.id.uuid = ID
    message.baseos.content_tree_uuid = OTHER.upper()
    message.baseos.MergeFromString(UNKNOWN_FIELD)
    noun = device.from_message(message)
    assert noun.base_os is not None
    assert noun.base_os.content_tree == OTHER
    assert noun.base_os.retry_counter is None
    message.baseos.content_tree_uuid = OTHER
    assert device.to_message(noun).baseos == message.baseos


def test_a_port_without_a_network_gets_the_dhcp_network_that_stock_nodes_demand() -> None:
    message = device.to_message(WHOLE)
    (network,) = [network for network in message.networks if network.id == ports.DHCP_NETWORK]
    assert network.type == common.V4
    assert network.ip.dhcp == common.Client
    assert message.systemAdapterList[0].networkUUID == ports.DHCP_NETWORK
    assert message.systemAdapterList[1].networkUUID == ""
    assert message.deviceIoList[0].phyaddrs["ifname"] == "eth0"
    assert message.deviceIoList[0].ptype == common.PhyIoNetEth
    assert {io.logicallabel for io in message.deviceIoList} == {"eth0", "mgmt", "wifi"}


def test_an_access_rule_without_an_action_allows_and_so_it_is_sent() -> None:
    rules = device.to_message(WHOLE).apps[0].interfaces[0].acls
    assert [len(rule.actions) for rule in rules] == [0, 1, 1, 1]
    assert rules[1].actions[0] == config.ACEAction(portmap=True, appPort=80)


def test_a_cipher_context_names_its_schemes_to_nodes_that_check_them() -> None:
    (context,) = device.to_message(WHOLE).cipherContexts
    assert context.keyExchangeScheme == common.KEA_ECDH
    assert context.encryptionScheme == common.SA_AES_256_CFB


def test_a_local_network_instance_is_sent_as_ipv4_and_a_switch_without_addresses() -> None:
    local, switch = device.to_message(WHOLE).networkInstances
    assert (local.ipType, local.activate, local.disable_flowlog) == (config.IPV4, True, True)
    assert (switch.ipType, switch.activate, switch.disable_flowlog) == (config.First, False, False)


def test_an_older_config_with_one_datastore_still_finds_it() -> None:
    message = config.EdgeDevConfig()
    message.id.uuid = ID
    message.contentInfo.add(uuid=ID, dsId=OTHER.upper(), URL="a", iformat=config.RAW, sha256="AB")
    (tree,) = device.from_message(message).content_trees
    assert tree.datastores == (DatastoreId(OTHER),)
    assert tree.sha256 == "ab"


def test_counters_that_are_not_there_differ_from_counters_of_zero() -> None:
    message = config.EdgeDevConfig()
    message.id.uuid = ID
    assert device.from_message(message).reboot_counter is None
    message.reboot.SetInParent()
    assert device.from_message(message).reboot_counter == 0


def edit_nothing(message: config.EdgeDevConfig) -> None:
    message.id.uuid = "not a uuid"


def edit_mode(message: config.EdgeDevConfig) -> None:
    app = message.apps.add()
    app.uuidandversion.uuid = str(uuid.uuid4())
    app.fixedresources.MergeFromString(b"\x78\x63")  # virtualizationMode 99


def edit_key(message: config.EdgeDevConfig) -> None:
    message.volumes.add(uuid="../../etc")


def edit_network(message: config.EdgeDevConfig) -> None:
    instance = message.networkInstances.add(instType=config.ZnetInstCloud)
    instance.uuidandversion.uuid = ID


def edit_rule(message: config.EdgeDevConfig) -> None:
    app = message.apps.add()
    app.uuidandversion.uuid = ID
    rule = app.interfaces.add().acls.add(id=7)
    rule.actions.add(drop=True, portmap=True)


def edit_actions(message: config.EdgeDevConfig) -> None:
    app = message.apps.add()
    app.uuidandversion.uuid = ID
    rule = app.interfaces.add().acls.add(id=7)
    rule.actions.extend([config.ACEAction(), config.ACEAction(drop=True)])


def edit_ports(message: config.EdgeDevConfig) -> None:
    message.systemAdapterList.add(name="eth0")
    message.systemAdapterList.add(name="eth0")


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (edit_nothing, "is no UUID"),
        (edit_mode, "VirtualizationMode 99 is not known"),
        (edit_key, "is no UUID"),
        (edit_network, "NetworkInstanceType 3 is not known"),
        (edit_rule, "drop and portmap at once"),
        (edit_actions, "access rule 7 has 2 actions"),
        (edit_ports, "no name for another one"),
    ],
)
def test_a_config_that_the_node_could_not_obey_is_refused_with_the_reason(
    edit: Callable[[config.EdgeDevConfig], None], why: str
) -> None:
    message = config.EdgeDevConfig()
    message.id.uuid = ID
    edit(message)
    with pytest.raises(ConvertError, match=why):
        device.from_message(message)
