"""Statuses become the messages that controllers expect, number for number."""

from __future__ import annotations

import pytest

from edgevirt.model.app import AppInstance, AppInstanceStatus, Resources, VolumeRef
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.content import BlobStatus, ContentTreeStatus
from edgevirt.model.domain import DomainMetric
from edgevirt.model.ids import (
    AppId,
    ContentTreeId,
    Digest,
    NetworkInstanceId,
    NodeId,
    SnapshotId,
    VolumeId,
)
from edgevirt.model.machine import Boot, BootReason, DiskUse, Inventory, Measures
from edgevirt.model.network import (
    AppNetworkStatus,
    Assignment,
    InterfaceCounters,
    NetworkInstanceState,
    NetworkInstanceStatus,
    NetworkInstanceType,
    NetworkMetric,
    Vif,
)
from edgevirt.model.node import Property, ServiceStatus
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Dhcp,
    PortConfig,
    PortConfigEntry,
    PortConfigList,
    PortConfigState,
    PortSettings,
    PortSource,
    PortStatus,
)
from edgevirt.model.snapshot import SnapshotReport
from edgevirt.model.volume import StorageUse, VolumeStatus
from edgevirt.wire.convert import measures, node, reports
from edgevirt.wire.convert.port_report import fill_ports
from edgevirt.wire.convert.storage import read_storage
from edgevirt.wire.messages import info, metrics

APP = AppId("0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11")
NETWORK = NetworkInstanceId("5b6f2c1e-0a43-4d7c-8d7e-3f5a1c2b4d99")
VOLUME = VolumeId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
TREE = ContentTreeId("9b2d7f3a-1111-4222-8333-444455556666")
DIGEST = Digest("sha256:" + "ab" * 32)
TROUBLE = Trouble(
    why="cannot start: no memory", since=1_700_000_000.5, severity=Severity.WARNING, hint="frees"
)
VIF = Vif(
    name="eth0", host_name="nbu1x1", bridge="bn1", network=NETWORK, mac="02:16:3e:00:00:01",
    ip="10.1.0.7", prefix=24, gateway="10.1.0.1",
)  # fmt: skip
VIFS = AppNetworkStatus(app=APP, ready=True, since=1.0, vifs=(VIF,))

WISH = PortSettings(
    name="wan", ifname="enp1s0", dhcp=Dhcp.STATIC, address="192.0.2.9/24", gateway="192.0.2.1",
    dns=("9.9.9.9",), cost=3, network="n",
)  # fmt: skip
FAILED = PortConfigEntry(
    config=PortConfig(
        source=PortSource.CONTROLLER,
        priority=30.0,
        ports=(WISH, PortSettings(name="wifi", ifname="wlan0", trouble="cannot use port wifi")),
    ),
    state=PortConfigState.FAIL,
    last_failed=31.0,
    last_error="cannot reach the controller: wan: silence",
    errors=(("wan", "silence"),),
)
USED = PortConfigEntry(
    config=PortConfig(
        source=PortSource.LAST_RESORT,
        priority=0.0,
        ports=(PortSettings(name="eth0", ifname="eth0"), PortSettings(name="eth1", ifname="eth1")),
    ),
    state=PortConfigState.SUCCESS,
    last_succeeded=40.0,
)
EXACTLY = PortStatus(
    name="eth0", ifname="eth0", up=True, mac="aa", mtu=1500, addresses=("192.0.2.2/24",),
    routers=("192.0.2.1",), dns=("192.0.2.53",), domain="shop.example", last_succeeded=40.0,
)  # fmt: skip


def an_app(state: SwState, **more: object) -> AppInstanceStatus:
    return AppInstanceStatus(id=APP, name="nginx", state=state, since=1.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("hint", ["", "free some disk; or wait"])
@pytest.mark.parametrize("at", [None, 1_700_000_060.9])
def test_when_something_is_tried_again_can_be_read_back(hint: str, at: float | None) -> None:
    trouble = Trouble(why="cannot download", since=1.0, hint=hint, retry_at=at)
    assert reports.read_retry(reports.tell_retry(trouble)) == (hint, at and float(int(at)))


@pytest.mark.parametrize(
    "words", ["Will retry in 5m0s; have retried 2 times", "tried again at 2026-99-01T00:00:00Z"]
)
def test_what_other_nodes_say_of_a_retry_is_kept_as_it_is(words: str) -> None:
    assert reports.read_retry(words) == (words, None)


def test_every_state_of_the_node_has_a_state_on_the_wire() -> None:
    assert set(reports.STATES) == set(SwState)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (SwState.LOADED, 4),
        (SwState.RESOLVING_TAG, 12),
        (SwState.VERIFYING, 16),
        (SwState.AWAITNETWORKINSTANCE, 20),
        (SwState.START_DELAYED, 22),
        (SwState.PAUSING, 7),
        (SwState.PAUSED, 5),
        (SwState.BROKEN, 8),
        (SwState.UNKNOWN, 7),
        (SwState.FAILED, 21),
        (SwState.REMOTELOADED, 19),
    ],
)
def test_states_travel_as_the_numbers_that_controllers_know(state: SwState, told: int) -> None:
    assert reports.app(an_app(state), None, None).ainfo.state == told


def test_an_app_tells_its_addresses_its_volumes_and_its_trouble() -> None:
    wanted = AppInstance(
        id=APP, name="nginx", resources=Resources(memory_kib=1), volumes=(VolumeRef(volume=VOLUME),)
    )
    status = an_app(
        SwState.RUNNING, version="3", boot_time=12.0, trouble=TROUBLE,
        ips=(("eth0", "10.1.0.8"), ("eth1", "10.2.0.2")),
    )  # fmt: skip
    message = reports.address(reports.app(status, wanted, VIFS), NodeId("node"), 20.25)
    assert message.ztype == info.ZiApp
    assert (message.devId, message.atTimeStamp.nanos) == ("node", 250_000_000)
    ainfo = message.ainfo
    assert (ainfo.AppID, ainfo.appVersion, ainfo.AppName) == (APP, "3", "nginx")
    assert ainfo.bootTime.seconds == 12
    assert list(ainfo.volumeRefs) == [VOLUME]
    first, second = ainfo.network
    assert (first.devName, list(first.IPAddrs)) == ("eth0", ["10.1.0.8"])
    assert (first.macAddr, first.ipv4_up) == (VIF.mac, True)
    assert (second.devName, list(second.IPAddrs)) == ("eth1", ["10.2.0.2"])
    (error,) = ainfo.appErr
    assert (error.description, error.severity, error.retry_condition) == (TROUBLE.why, 2, "frees")
    assert (error.entities[0].entity, error.entities[0].entity_id) == (5, APP)
    assert (error.timestamp.seconds, error.timestamp.nanos) == (1_700_000_000, 500_000_000)


def test_an_app_tells_its_snapshots_each_with_what_is_wrong_with_it() -> None:
    one = SnapshotReport(id=SnapshotId(TREE), version="2", taken_at=5.0, trouble=TROUBLE)
    status = AppInstanceStatus(
        id=APP, name="web", state=SwState.RUNNING, since=1.0, version="1", snapshots=(one,)
    )
    ainfo = reports.app(status, None, None).ainfo
    assert ainfo.appVersion == "1"
    (told,) = ainfo.snapshots
    assert (told.id, told.config_id, told.config_version) == (TREE, APP, "2")
    assert told.type == info.SNAPSHOT_TYPE_APP_UPDATE
    assert told.create_time.seconds == 5
    assert told.snap_err.description == TROUBLE.why


def test_a_network_instance_tells_who_is_on_it() -> None:
    status = NetworkInstanceStatus(
        id=NETWORK, state=NetworkInstanceState.ONLINE, since=5.0, name="local", bridge="bn1",
        gateway="10.1.0.1", ports=("eth0",), assignments=(Assignment(mac=VIF.mac, ip=VIF.ip),),
        type=NetworkInstanceType.LOCAL, trouble=TROUBLE,
    )  # fmt: skip
    niinfo = reports.network_instance(status, [VIFS]).niinfo
    assert (niinfo.networkID, niinfo.state, niinfo.activated) == (NETWORK, 2, True)
    assert (niinfo.instType, niinfo.bridgeName, niinfo.bridgeIPAddr) == (2, "bn1", "10.1.0.1")
    assert [(vif.vifName, vif.appID) for vif in niinfo.vifs] == [("nbu1x1", APP)]
    assert [(a.macAddress, list(a.ipAddress)) for a in niinfo.ipAssignments] == [
        (VIF.mac, [VIF.ip])
    ]
    assert niinfo.networkErr[0].entities[0].entity == info.ENTITY_NETWORK_INSTANCE


def test_volumes_trees_and_blobs_tell_sizes_and_progress() -> None:
    vinfo = reports.volume(
        VolumeStatus(
            id=VOLUME, generation=2, state=SwState.CREATED_VOLUME, since=1.0, size=5, max_size=9,
            progress=100, trouble=TROUBLE,
        )
    ).vinfo  # fmt: skip
    assert (vinfo.uuid, vinfo.generation_count, vinfo.state) == (VOLUME, 2, info.CREATED_VOLUME)
    assert (vinfo.resources.curSizeBytes, vinfo.resources.maxSizeBytes) == (5, 9)
    assert vinfo.volumeErr.description == TROUBLE.why
    cinfo = reports.content_tree(
        ContentTreeStatus(
            id=TREE, state=SwState.DOWNLOADING, since=1.0, progress=40, digest=DIGEST,
            blobs=(DIGEST,), trouble=TROUBLE,
        )
    ).cinfo  # fmt: skip
    assert (cinfo.uuid, cinfo.sha256, cinfo.progressPercentage) == (TREE, "ab" * 32, 40)
    assert list(cinfo.componentShaList) == ["ab" * 32]
    (part,) = reports.blob(BlobStatus(digest=DIGEST, state=SwState.LOADED, size=3)).binfo.blob
    assert (part.sha256, part.state, part.progressPercentage) == ("ab" * 32, info.DELIVERED, 100)


def test_what_is_gone_is_told_by_its_id_alone() -> None:
    assert reports.app_gone(APP).ainfo == info.ZInfoApp(AppID=APP)
    assert reports.network_instance_gone(NETWORK).niinfo.state == 0
    assert reports.volume_gone(VOLUME, 2).vinfo.state == 0
    assert reports.content_tree_gone(TREE).cinfo == info.ZInfoContentTree(uuid=TREE)
    assert reports.blob_gone(DIGEST).binfo.blob[0] == info.ZInfoBlob(sha256="ab" * 32)


def test_device_info_tells_software_boot_ports_properties_and_trust() -> None:
    inventory = Inventory(
        architecture="x86_64", cpus=4, memory=8 << 30, storage=64 << 30, hostname="edge",
        manufacturer="ACME", product="Box", serial="S1",
    )  # fmt: skip
    report = node.NodeReport(
        inventory=inventory,
        boot=Boot(at=10.0, count=3, reason=BootReason.REBOOT_COMMAND, text="asked", ended=9.0),
        version="0.1",
        port_configs=PortConfigList(entries=(FAILED, USED), current=1),
        network=DeviceNetworkStatus(ports=(EXACTLY,)),
        properties={"timer.config.interval": Property(value="60", error="too low")},
        unknown_properties={"x": Property(value="y", error="unknown")},
        apps=((APP, "nginx", "d.1.1"),),
        reboot_counter=7,
        shutdown_counter=8,
        root_hash=b"h" * 32,
        attestation=info.ATTESTATION_STATE_COMPLETE,
    )
    dinfo = node.device(report).dinfo
    assert (dinfo.ncpu, dinfo.memory, dinfo.storage) == (4, 8192, 65536)
    assert dinfo.minfo.serialNumber == "S1"
    assert (dinfo.swList[0].shortVersion, dinfo.swList[0].activated) == ("0.1", True)
    assert (dinfo.restartCounter, dinfo.last_boot_reason) == (3, info.BOOT_REASON_REBOOT_CMD)
    assert (dinfo.lastRebootReason, dinfo.lastRebootTime.seconds) == ("asked", 9)
    assert dinfo.systemAdapter.currentIndex == 1
    assert dinfo.configItemStatus.configItems["timer.config.interval"].error == "too low"
    assert dinfo.configItemStatus.unknownConfigItems["x"].error == "unknown"
    assert (dinfo.rebootConfigCounter, dinfo.shutdown_config_counter) == (7, 8)
    assert dinfo.appInstances[0].domainName == "d.1.1"
    assert dinfo.sec_info.sha_root_ca == b"h" * 32
    assert dinfo.attestation_info.state == info.ATTESTATION_STATE_COMPLETE
    assert dinfo.state == info.ZDEVICE_STATE_ONLINE


def test_every_port_config_is_told_and_which_one_the_node_fell_back_to() -> None:
    message = info.SystemAdapterInfo()
    broken = PortStatus(name="eth1", ifname="eth1", error="eth1 has no link", last_failed=39.0)
    network = DeviceNetworkStatus(ports=(EXACTLY, broken))
    fill_ports(message, PortConfigList(entries=(FAILED, USED), current=1), network)
    assert message.currentIndex == 1
    failed, used = message.status
    assert (failed.key, failed.lastError) == ("zedagent", FAILED.last_error)
    assert (failed.lastFailed.seconds, failed.HasField("lastSucceeded")) == (31, False)
    wan, wifi = failed.ports
    assert (wan.name, wan.ifname, wan.dhcpType, wan.subnet) == ("wan", "enp1s0", 1, "192.0.2.0/24")
    assert (wan.gateway, list(wan.dnsServers), wan.cost) == ("192.0.2.1", ["9.9.9.9"], 3)
    assert (wan.err.description, wifi.err.description) == ("silence", "cannot use port wifi")
    assert (used.key, used.lastSucceeded.seconds, used.lastError) == ("lastresort", 40, "")
    first, second = used.ports
    assert (first.up, list(first.IPAddrs), first.macAddr) == (True, ["192.0.2.2"], "aa")
    assert (list(first.defaultRouters), first.dns.DNSdomain) == (["192.0.2.1"], "shop.example")
    assert (first.err.description, first.err.timestamp.seconds) == ("", 40)
    assert (second.err.description, second.err.timestamp.seconds) == ("eth1 has no link", 39)


def test_where_the_disk_went_is_told_by_paths_and_read_back() -> None:
    mebi = 1 << 20
    use = StorageUse(
        total=90 * mebi, free=9 * mebi, reserved=5 * mebi, content=4 * mebi, volumes=3 * mebi,
        snapshots=2 * mebi,
    )  # fmt: skip
    told = measures.metric_message(
        measures.MetricReport(node=Measures(at=1.0, uptime=1.0), storage=use), "n"
    ).dm
    assert (told.runtimeStorageOverheadMB, told.appRunTimeStorageMB) == (5, 9)
    assert read_storage(told) == {
        "content": 4 * mebi,
        "volumes": 3 * mebi,
        "snapshots": 2 * mebi,
        "reserved": 5 * mebi,
    }
    assert read_storage(metrics.deviceMetric()) == {}


def test_metrics_count_in_the_units_of_the_wire() -> None:
    app = an_app(SwState.RUNNING, boot_time=100.0)
    mebi = 1 << 20
    report = measures.MetricReport(
        node=Measures(
            at=160.0, uptime=60.5, cpu_ns=3_500_000_000, memory_total=1000 * mebi,
            memory_available=250 * mebi, services_memory=90 * mebi,
            disks=(DiskUse(device="vda1", mount="/persist", total=10 * mebi, used=4 * mebi),),
        ),
        apps={APP: app},
        domains={
            APP: DomainMetric(
                at=160.0, cpu_ns=10, memory_bytes=3 * mebi, memory_limit=6 * mebi
            )
        },
        networks={
            APP: NetworkMetric(at=1.0, counters=(InterfaceCounters(name="eth0", rx_bytes=5),)),
            NETWORK: NetworkMetric(at=1.0, counters=(InterfaceCounters(name="a", tx_bytes=6),)),
            "node": NetworkMetric(at=1.0, counters=(InterfaceCounters(name="eth0", tx_bytes=7),)),
        },
        instances={
            NETWORK: NetworkInstanceStatus(id=NETWORK, state=NetworkInstanceState.ONLINE, since=1.0)
        },
        volumes={
            "v": VolumeStatus(
                id=VOLUME, generation=0, state=SwState.CREATED_VOLUME, since=1, size=3, max_size=9
            )
        },
        services={"agent": ServiceStatus(pid=7, since=1.0, memory_bytes=11)},
        line=measures.Line(
            failures=1, successes=2, unverified=3, last_success=5.0,
            urls={"/config": measures.Requests(tries=3, sent=2, seconds=1.5)},
        ),
        logs=measures.LogBacklog(bundles=2, size=99, oldest=4.0, bytes_sent=50),
        received_config=8.0,
        processed_config=7.0,
    )  # fmt: skip
    message = measures.metric_message(report, "node-id")
    back = metrics.ZMetricMsg.FromString(message.SerializeToString())
    dm = back.dm
    assert (dm.memory.usedMem, dm.memory.availMem, dm.memory.usedPercentage) == (750, 250, 75.0)
    assert dm.deviceMemory.used_eveMB == 90
    assert (dm.cpuMetric.upTime.seconds, dm.cpuMetric.total) == (60, 3)
    assert (dm.disk[0].mountPath, dm.disk[0].total, dm.disk[0].used) == ("/persist", 10, 4)
    assert dm.network[0].txBytes == 7
    assert (dm.zedcloud[0].authVerifyFailure, dm.zedcloud[0].urlMetrics[0].total_time_spent) == (
        3,
        1500,
    )
    assert (dm.newlog.deviceMetrics.numGzipFileInDir, dm.newlog.total_size_logs) == (2, 99)
    assert (dm.last_received_config.seconds, dm.last_processed_config.seconds) == (8, 7)
    (am,) = back.am
    assert (am.AppID, am.cpu.total_ns, am.cpu.upTime.seconds) == (APP, 10, 60)
    assert (am.appMemory.usedMB, am.appMemory.allocatedMB) == (3, 6)
    assert am.network[0].rxBytes == 5
    assert back.nm[0].networkStats.tx.totalBytes == 6
    assert (back.vm[0].usedBytes, back.vm[0].freeBytes) == (3, 6)
    assert (back.pr[0].name, back.pr[0].rss_bytes) == ("agent", 11)
