"""What a node tells of the things that it runs: statuses as info messages.

One object per message. A message that holds nothing but the object's id says that it is gone.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from edgevirt.model.app import AppInstance, AppInstanceStatus
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import BlobStatus, ContentTreeStatus
from edgevirt.model.ids import AppId, ContentTreeId, Digest, NetworkInstanceId, NodeId, VolumeId
from edgevirt.model.network import AppNetworkStatus, NetworkInstanceState, NetworkInstanceStatus
from edgevirt.model.snapshot import SnapshotReport
from edgevirt.model.volume import VolumeStatus
from edgevirt.wire.messages import info

_NANO: Final = 1_000_000_000
_AGAIN: Final = "tried again at"
_RETRY: Final = re.compile(rf"(?:(.*); )?{_AGAIN} (\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.DOTALL)

STATES: Final[Mapping[SwState, info.ZSwState]] = {
    SwState.INITIAL: info.INITIAL,
    SwState.RESOLVING_TAG: info.RESOLVING_TAG,
    SwState.RESOLVED_TAG: info.RESOLVED_TAG,
    SwState.DOWNLOADING: info.DOWNLOAD_STARTED,
    SwState.DOWNLOADED: info.DOWNLOADED,
    SwState.VERIFYING: info.VERIFYING,
    SwState.VERIFIED: info.VERIFIED,
    SwState.LOADING: info.LOADING,
    SwState.LOADED: info.DELIVERED,
    SwState.CREATING_VOLUME: info.CREATING_VOLUME,
    SwState.CREATED_VOLUME: info.CREATED_VOLUME,
    SwState.INSTALLED: info.INSTALLED,
    SwState.AWAITNETWORKINSTANCE: info.AWAITNETWORKINSTANCE,
    SwState.START_DELAYED: info.START_DELAYED,
    SwState.BOOTING: info.BOOTING,
    SwState.RUNNING: info.RUNNING,
    SwState.PAUSING: info.RUNNING,
    SwState.PAUSED: info.INSTALLED,
    SwState.HALTING: info.HALTING,
    SwState.HALTED: info.HALTED,
    SwState.BROKEN: info.HALTING,
    SwState.UNKNOWN: info.RUNNING,
    SwState.PENDING: info.PENDING,
    SwState.SCHEDULING: info.SCHEDULING,
    SwState.FAILED: info.ERROR,
    SwState.REMOTELOADED: info.LOADED,
}
"""As controllers expect them. Their numbers are not in the order of life."""


def stamp(seconds: float) -> Timestamp:
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * _NANO))


def error_info(trouble: Trouble, entity: info.Entity, entity_id: str) -> info.ErrorInfo:
    error = info.ErrorInfo(
        description=trouble.why,
        timestamp=stamp(trouble.since),
        severity=cast("info.Severity", int(trouble.severity)),
        retry_condition=tell_retry(trouble),
    )
    error.entities.add(entity=entity, entity_id=entity_id)
    return error


def tell_retry(trouble: Trouble) -> str:
    """What helps, and when it is tried again: in words, for any controller's people."""
    words = [trouble.hint] if trouble.hint else []
    if trouble.retry_at is not None:
        moment = datetime.datetime.fromtimestamp(int(trouble.retry_at), datetime.UTC)
        words.append(f"{_AGAIN} {moment:%Y-%m-%dT%H:%M:%SZ}")
    return "; ".join(words)


def read_retry(condition: str) -> tuple[str, float | None]:
    """What `tell_retry` told: what helps, and the time. Other nodes' words are all in the first."""
    found = _RETRY.fullmatch(condition)
    if found is None:
        return condition, None
    hint, moment = found.groups()
    try:
        return hint or "", datetime.datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return condition, None


def app(
    status: AppInstanceStatus, wanted: AppInstance | None, network: AppNetworkStatus | None
) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiApp)
    ainfo = message.ainfo
    ainfo.AppID = status.id
    ainfo.appVersion = status.version
    ainfo.AppName = status.name
    ainfo.state = STATES[status.state]
    if status.boot_time:
        ainfo.bootTime.CopyFrom(stamp(status.boot_time))
    for trouble in (status.trouble, status.end):
        if trouble is not None:
            ainfo.appErr.append(error_info(trouble, info.ENTITY_APP_INSTANCE, status.id))
    if wanted is not None:
        ainfo.volumeRefs.extend(ref.volume for ref in wanted.volumes)
    for snapshot in status.snapshots:
        _fill_snapshot(ainfo.snapshots.add(), status, snapshot)
    _fill_vifs(ainfo, status, network)
    return message


def _fill_snapshot(
    told: info.ZInfoSnapshot, status: AppInstanceStatus, snapshot: SnapshotReport
) -> None:
    told.id = snapshot.id
    told.config_id = status.id
    told.config_version = snapshot.version
    told.type = cast("info.SnapshotType", int(snapshot.type))
    if snapshot.taken_at:
        told.create_time.CopyFrom(stamp(snapshot.taken_at))
    if snapshot.trouble is not None:
        told.snap_err.CopyFrom(error_info(snapshot.trouble, info.ENTITY_APP_INSTANCE, status.id))


def _fill_vifs(
    ainfo: info.ZInfoApp, status: AppInstanceStatus, network: AppNetworkStatus | None
) -> None:
    addresses: dict[str, list[str]] = {}
    for name, address in status.ips:
        addresses.setdefault(name, []).append(address)
    for vif in network.vifs if network is not None else ():
        known = addresses.pop(vif.name, None) or ([vif.ip] if vif.ip else [])
        ainfo.network.add(
            devName=vif.name, macAddr=vif.mac, IPAddrs=known, ipv4_up=bool(known),
            defaultRouters=[vif.gateway] if vif.gateway else [],
        )  # fmt: skip
    for name, known in addresses.items():
        ainfo.network.add(devName=name, IPAddrs=known, ipv4_up=True)


def network_instance(
    status: NetworkInstanceStatus, users: Iterable[AppNetworkStatus]
) -> info.ZInfoMsg:
    """`users`: the networks of all apps."""
    message = info.ZInfoMsg(ztype=info.ZiNetworkInstance)
    niinfo = message.niinfo
    niinfo.networkID = status.id
    niinfo.displayname = status.name
    niinfo.instType = int(status.type)
    niinfo.state = cast("info.ZNetworkInstanceState", int(status.state))
    niinfo.activated = status.state is NetworkInstanceState.ONLINE
    if niinfo.activated:
        niinfo.upTimeStamp.CopyFrom(stamp(status.since))
    niinfo.bridgeName = status.bridge
    niinfo.bridgeIPAddr = status.gateway
    niinfo.ports.extend(status.ports)
    for assignment in status.assignments:
        niinfo.ipAssignments.add(macAddress=assignment.mac, ipAddress=[assignment.ip])
    for user in users:
        for vif in user.vifs:
            if vif.network == status.id:
                niinfo.vifs.add(vifName=vif.host_name, macAddress=vif.mac, appID=user.app)
    if status.trouble is not None:
        niinfo.networkErr.append(
            error_info(status.trouble, info.ENTITY_NETWORK_INSTANCE, status.id)
        )
    return message


def volume(status: VolumeStatus) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiVolume)
    vinfo = message.vinfo
    vinfo.uuid = status.id
    vinfo.displayName = status.name
    vinfo.state = STATES[status.state]
    vinfo.progressPercentage = status.progress
    vinfo.generation_count = status.generation
    vinfo.resources.maxSizeBytes = status.max_size
    vinfo.resources.curSizeBytes = status.size
    if status.trouble is not None:
        vinfo.volumeErr.CopyFrom(error_info(status.trouble, info.ENTITY_VOLUME, status.id))
    return message


def content_tree(status: ContentTreeStatus) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiContentTree)
    cinfo = message.cinfo
    cinfo.uuid = status.id
    cinfo.displayName = status.name
    cinfo.sha256 = _hex(status.digest)
    cinfo.state = STATES[status.state]
    cinfo.progressPercentage = status.progress
    cinfo.resources.curSizeBytes = status.size
    cinfo.componentShaList.extend(map(_hex, status.blobs))
    if status.trouble is not None:
        cinfo.err.CopyFrom(error_info(status.trouble, info.ENTITY_CONTENT_TREE, status.id))
    return message


def blob(status: BlobStatus) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiBlobList)
    part = message.binfo.blob.add(sha256=_hex(status.digest), state=STATES[status.state])
    part.resources.curSizeBytes = status.size
    part.progressPercentage = 100 if status.state is SwState.LOADED else 0
    if status.trouble is not None:
        part.err.CopyFrom(error_info(status.trouble, info.ENTITY_CONTENT_BLOB, part.sha256))
    return message


# -- what is gone --------------------------------------------------------------------------------


def app_gone(key: AppId) -> info.ZInfoMsg:
    return info.ZInfoMsg(ztype=info.ZiApp, ainfo=info.ZInfoApp(AppID=key))


def network_instance_gone(key: NetworkInstanceId) -> info.ZInfoMsg:
    return info.ZInfoMsg(
        ztype=info.ZiNetworkInstance, niinfo=info.ZInfoNetworkInstance(networkID=key)
    )


def volume_gone(key: VolumeId, generation: int) -> info.ZInfoMsg:
    return info.ZInfoMsg(
        ztype=info.ZiVolume, vinfo=info.ZInfoVolume(uuid=key, generation_count=generation)
    )


def content_tree_gone(key: ContentTreeId) -> info.ZInfoMsg:
    return info.ZInfoMsg(ztype=info.ZiContentTree, cinfo=info.ZInfoContentTree(uuid=key))


def blob_gone(key: Digest) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiBlobList)
    message.binfo.blob.add(sha256=_hex(key))
    return message


def address(message: info.ZInfoMsg, node: NodeId, at: float) -> info.ZInfoMsg:
    """Says who tells it, and when."""
    message.devId = node
    message.atTimeStamp.CopyFrom(stamp(at))
    return message


def _hex(digest: Digest | None) -> str:
    return digest.removeprefix("sha256:") if digest is not None else ""
