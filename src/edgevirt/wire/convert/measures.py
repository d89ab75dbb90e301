"""What a node measured, as its one metrics message. Counters are cumulative since boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.base import SwState
from edgevirt.model.domain import DomainMetric
from edgevirt.model.machine import DiskUse, Measures
from edgevirt.model.network import (
    InterfaceCounters,
    NetworkInstanceState,
    NetworkInstanceStatus,
    NetworkMetric,
)
from edgevirt.model.node import ServiceStatus
from edgevirt.model.volume import StorageUse, VolumeStatus
from edgevirt.wire.convert.reports import stamp
from edgevirt.wire.convert.storage import fill_storage
from edgevirt.wire.messages import metrics

MEBI: Final = 1 << 20
_SECOND: Final = 1_000_000_000
_NODE: Final = "node"


class Requests(msgspec.Struct, frozen=True):
    """How the requests to one URL of the controller went."""

    tries: int = 0
    bytes_tried: int = 0
    sent: int = 0
    bytes_sent: int = 0
    received: int = 0
    bytes_received: int = 0
    seconds: float = 0.0


class Line(msgspec.Struct, frozen=True):
    """How the line to the controller fared, over one port."""

    ifname: str = ""
    failures: int = 0
    successes: int = 0
    last_failure: float = 0.0
    last_success: float = 0.0
    unverified: int = 0
    """Replies whose envelope was not the controller's."""
    urls: Mapping[str, Requests] = msgspec.field(default_factory=dict)


class LogBacklog(msgspec.Struct, frozen=True):
    """What waits for upload and what was sent."""

    bundles: int = 0
    size: int = 0
    oldest: float = 0.0
    sent: int = 0
    bytes_sent: int = 0
    refused: int = 0
    """Answers of 400 to 499."""


class MetricReport(msgspec.Struct, frozen=True):
    """Everything that one message says, as the agent found it."""

    node: Measures
    apps: Mapping[str, AppInstanceStatus] = msgspec.field(default_factory=dict)
    domains: Mapping[str, DomainMetric] = msgspec.field(default_factory=dict)
    instances: Mapping[str, NetworkInstanceStatus] = msgspec.field(default_factory=dict)
    networks: Mapping[str, NetworkMetric] = msgspec.field(default_factory=dict)
    volumes: Mapping[str, VolumeStatus] = msgspec.field(default_factory=dict)
    storage: StorageUse | None = None
    services: Mapping[str, ServiceStatus] = msgspec.field(default_factory=dict)
    line: Line = msgspec.field(default_factory=Line)
    logs: LogBacklog = msgspec.field(default_factory=LogBacklog)
    received_config: float = 0.0
    """Timestamp of the newest config that came; a gap to the next says that it isn't applied."""
    processed_config: float = 0.0


def metric_message(report: MetricReport, node_id: str) -> metrics.ZMetricMsg:
    message = metrics.ZMetricMsg(devID=node_id, atTimeStamp=stamp(report.node.at))
    _fill_node(message.dm, report)
    for key, status in report.apps.items():
        _fill_app(message.am.add(), status, report.domains.get(key), report.networks.get(key))
    for key, instance in report.instances.items():
        _fill_instance(message.nm.add(), instance, report.networks.get(key))
    for volume in report.volumes.values():
        if volume.state is SwState.CREATED_VOLUME:
            message.vm.add(
                uuid=volume.id,
                displayName=volume.name,
                totalBytes=volume.max_size,
                usedBytes=volume.size,
                freeBytes=max(0, volume.max_size - volume.size),
            )
    for name, service in report.services.items():
        message.pr.add(
            pid=service.pid, name=name, watched=True, rss_bytes=service.memory_bytes,
            create_time=stamp(service.since),
        )  # fmt: skip
    return message


def _fill_node(dm: metrics.deviceMetric, report: MetricReport) -> None:
    node = report.node
    used = node.memory_total - node.memory_available
    dm.memory.usedMem = used // MEBI
    dm.memory.availMem = node.memory_available // MEBI
    if node.memory_total:
        dm.memory.usedPercentage = 100 * used / node.memory_total
        dm.memory.availPercentage = 100 - dm.memory.usedPercentage
    dm.deviceMemory.memoryMB = node.memory_total // MEBI
    dm.deviceMemory.allocated_appsMB = sum(d.memory_limit for d in report.domains.values()) // MEBI
    dm.deviceMemory.allocated_eveMB = node.services_limit // MEBI
    dm.deviceMemory.used_eveMB = node.services_memory // MEBI
    dm.systemServicesMemoryMB.usedMem = node.services_memory // MEBI
    _fill_cpu(dm.cpuMetric, node.cpu_ns, node.uptime)
    for disk in node.disks:
        _fill_disk(dm.disk.add(), disk)
    if report.storage is not None:
        fill_storage(dm, report.storage)
    ports = report.networks.get(_NODE)
    for port in ports.counters if ports is not None else node.counters:
        _fill_counters(dm.network.add(), port)
    dm.zedcloud.append(_line(report.line))
    _fill_logs(dm.newlog, report.logs)
    if report.received_config:
        dm.last_received_config.CopyFrom(stamp(report.received_config))
    if report.processed_config:
        dm.last_processed_config.CopyFrom(stamp(report.processed_config))


def _fill_cpu(cpu: metrics.appCpuMetric, used_ns: int, uptime: float) -> None:
    """A duration travels as the time at which it would end if it had begun in 1970."""
    cpu.upTime.CopyFrom(stamp(uptime))
    cpu.total_ns = used_ns
    cpu.total = used_ns // _SECOND


def _fill_disk(message: metrics.diskMetric, disk: DiskUse) -> None:
    if disk.mount:
        message.mountPath = disk.mount
    else:
        message.disk = disk.device
    message.total = disk.total // MEBI
    message.used = disk.used // MEBI
    message.free = disk.free // MEBI
    message.readBytes = disk.read_bytes // MEBI
    message.writeBytes = disk.write_bytes // MEBI
    message.readCount = disk.reads
    message.writeCount = disk.writes


def _fill_counters(message: metrics.networkMetric, counters: InterfaceCounters) -> None:
    message.iName = counters.name
    message.localName = counters.name
    message.txBytes = counters.tx_bytes
    message.rxBytes = counters.rx_bytes
    message.txPkts = counters.tx_packets
    message.rxPkts = counters.rx_packets
    message.txDrops = counters.tx_drops
    message.rxDrops = counters.rx_drops
    message.rxAclDrops = counters.acl_drops


def _fill_app(
    am: metrics.appMetric,
    status: AppInstanceStatus,
    domain: DomainMetric | None,
    network: NetworkMetric | None,
) -> None:
    am.AppID = status.id
    am.AppName = status.name
    am.appVersion = status.version
    if domain is not None:
        started = status.boot_time or domain.at
        _fill_cpu(am.cpu, domain.cpu_ns, max(0.0, domain.at - started))
        am.appMemory.allocatedMB = domain.memory_limit // MEBI
        am.appMemory.usedMB = domain.memory_bytes // MEBI
        am.memory.usedMem = domain.memory_bytes // MEBI
        am.memory.availMem = max(0, domain.memory_limit - domain.memory_bytes) // MEBI
        if domain.memory_limit:
            am.memory.usedPercentage = 100 * domain.memory_bytes / domain.memory_limit
            am.memory.availPercentage = max(0.0, 100 - am.memory.usedPercentage)
    for counters in network.counters if network is not None else ():
        _fill_counters(am.network.add(), counters)


def _fill_instance(
    nm: metrics.ZMetricNetworkInstance,
    status: NetworkInstanceStatus,
    metric: NetworkMetric | None,
) -> None:
    nm.networkID = status.id
    nm.displayname = status.name
    nm.instType = int(status.type)
    nm.activated = status.state is NetworkInstanceState.ONLINE
    counters = metric.counters if metric is not None else ()
    for counter in counters:
        _fill_counters(nm.network.add(), counter)
    _fill_sum(nm.networkStats, counters)


def _fill_sum(stats: metrics.ZMetricNetworkStats, counters: Iterable[InterfaceCounters]) -> None:
    for counter in counters:
        stats.rx.totalBytes += counter.rx_bytes
        stats.rx.totalPackets += counter.rx_packets
        stats.rx.drops += counter.rx_drops
        stats.tx.totalBytes += counter.tx_bytes
        stats.tx.totalPackets += counter.tx_packets
        stats.tx.drops += counter.tx_drops


def _line(line: Line) -> metrics.zedcloudMetric:
    message = metrics.zedcloudMetric(
        ifName=line.ifname,
        failures=line.failures,
        success=line.successes,
        authVerifyFailure=line.unverified,
    )
    if line.last_failure:
        message.lastFailure.CopyFrom(stamp(line.last_failure))
    if line.last_success:
        message.lastSuccess.CopyFrom(stamp(line.last_success))
    for url, requests in line.urls.items():
        message.urlMetrics.add(
            url=url,
            tryMsgCount=requests.tries,
            tryByteCount=requests.bytes_tried,
            sentMsgCount=requests.sent,
            sentByteCount=requests.bytes_sent,
            recvMsgCount=requests.received,
            recvByteCount=requests.bytes_received,
            total_time_spent=int(requests.seconds * 1000),
        )
    return message


def _fill_logs(newlog: metrics.newlogMetric, logs: LogBacklog) -> None:
    newlog.totalBytesUpload = logs.bytes_sent
    newlog.num4xxResponses = logs.refused
    newlog.total_size_logs = logs.size
    newlog.deviceMetrics.numGzipFileSent = logs.sent
    newlog.deviceMetrics.numGzipFileInDir = logs.bundles
    if logs.oldest:
        newlog.oldest_saved_device_log.CopyFrom(stamp(logs.oldest))
