"""Statuses → info messages, delivered until they are accepted (EVE API v2, `info`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from edgevirt import __version__
from edgevirt.host.machine import readings
from edgevirt.model import kinds
from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.baseos import BaseOsStatus
from edgevirt.model.content import BlobStatus, ContentTreeStatus
from edgevirt.model.hardware import AdapterGroup, as_used
from edgevirt.model.ids import AppId, ContentTreeId, Digest, NetworkInstanceId, VolumeId
from edgevirt.model.machine import Boot
from edgevirt.model.network import AppNetworkStatus, NetworkInstanceStatus
from edgevirt.model.node import Property
from edgevirt.model.ports import PortConfigList
from edgevirt.model.volume import VolumeStatus
from edgevirt.node.agent.attest_steps import Step
from edgevirt.node.agent.outbox import Outbox
from edgevirt.node.agent.outcome import Delivery, Failure, in_words
from edgevirt.node.agent.properties import RULES
from edgevirt.node.agent.resolve import in_maintenance
from edgevirt.node.agent.state import Line, root_hash
from edgevirt.runtime import Gone, InStep, Kind, Put
from edgevirt.wire.convert import reports
from edgevirt.wire.convert.hardware import fill_assigned
from edgevirt.wire.convert.node import NodeReport, device, hardware
from edgevirt.wire.messages import info

_log = logging.getLogger(__name__)

UNREACHABLE = 60.0
"""Seconds without a try after no answer at all."""
DEVICE = "device"
_OF_THE_NODE: tuple[Kind[Any], ...] = (
    kinds.PORT_CONFIG_LIST,
    kinds.DEVICE_NETWORK_STATUS,
    kinds.BASE_OS_STATUS,
    kinds.SLOT,
    kinds.NODE_REBOOT,
    kinds.VAULT_STATUS,
    kinds.SECURITY_MODULE,
    kinds.HOST_CAPACITY,
    kinds.ADAPTER_GROUP,
    kinds.ADAPTER_USE,
)
"""Besides the properties: what device info tells of."""
CALM = 0.2
"""Seconds between two looks at the outbox, so that a burst of changes is one message."""


_ATTESTATION: Final = {
    Step.CERTIFICATES: info.ATTESTATION_STATE_NONCE_WAIT,
    Step.NONCE: info.ATTESTATION_STATE_NONCE_WAIT,
    Step.QUOTE: info.ATTESTATION_STATE_TPM_QUOTE_WAIT,
    Step.ATTEST: info.ATTESTATION_STATE_ATTEST_WAIT,
    Step.OWN_KEY: info.ATTESTATION_STATE_TPM_ESCROW_WAIT,
    Step.ESCROW: info.ATTESTATION_STATE_ATTEST_ESCROW_WAIT,
    Step.COMPLETE: info.ATTESTATION_STATE_COMPLETE,
    Step.RESTART: info.ATTESTATION_STATE_RESTART_WAIT,
}


class News:
    """What the controller is told. Tables of the present statuses, and an outbox."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._store = line.context.store
        self.outbox = Outbox()
        self._bell = line.info_bell
        self._tables: dict[str, dict[str, Any]] = {}
        self._composers: dict[str, Callable[[str, Any], info.ZInfoMsg]] = {
            kinds.APP_INSTANCE_STATUS.name: self._app,
            kinds.NETWORK_INSTANCE_STATUS.name: self._network_instance,
            kinds.VOLUME_STATUS.name: self._volume,
            kinds.CONTENT_TREE_STATUS.name: self._content_tree,
            kinds.BLOB_STATUS.name: self._blob,
        }
        line.resend = self.resend
        line.report_device = self._enqueue_device

    async def run(self) -> None:
        """Never returns."""
        followed: tuple[Kind[Any], ...] = (
            kinds.APP_INSTANCE_STATUS,
            kinds.NETWORK_INSTANCE_STATUS,
            kinds.VOLUME_STATUS,
            kinds.CONTENT_TREE_STATUS,
            kinds.BLOB_STATUS,
            kinds.APP_INSTANCE,
            kinds.APP_NETWORK_STATUS,
            kinds.PROPERTY,
            kinds.DOMAIN_STATUS,
            kinds.MACHINE_DEVICES,
            *_OF_THE_NODE,
        )
        async with asyncio.TaskGroup() as group:
            for kind in followed:
                self._tables[kind.name] = {}
                group.create_task(self._follow(kind))
            group.create_task(self._repeat_device())
            group.create_task(self._deliver())

    def resend(self) -> None:
        """All of it again: the controller may have forgotten."""
        for name in self._composers:
            for key in self._tables.get(name, {}):
                self._enqueue(name, key)
        self._enqueue_device()

    # -- from changes to the outbox --

    async def _follow(self, kind: Kind[Any]) -> None:
        table = self._tables[kind.name]
        async for event in self._store.watch(kind):
            if isinstance(event, InStep):
                continue
            key = event.resource.key
            if isinstance(event, Put):
                table[key] = event.resource.value
            elif isinstance(event, Gone):
                table.pop(key, None)
            self._changed(kind, key)

    def _changed(self, kind: Kind[Any], key: str) -> None:
        if kind.name in self._composers:
            self._enqueue(kind.name, key)
        elif kind is kinds.APP_NETWORK_STATUS:
            if key in self._tables[kinds.APP_INSTANCE_STATUS.name]:
                self._enqueue(kinds.APP_INSTANCE_STATUS.name, key)
            for vif in self._vifs(key):
                self._enqueue(kinds.NETWORK_INSTANCE_STATUS.name, vif)
        elif kind is kinds.PROPERTY or kind in _OF_THE_NODE:
            self._enqueue_device()
            if kind is kinds.ADAPTER_USE:
                for app in self._tables[kinds.APP_INSTANCE_STATUS.name]:
                    self._enqueue(kinds.APP_INSTANCE_STATUS.name, app)
        elif kind is kinds.MACHINE_DEVICES:
            self._enqueue_hardware()

    def _vifs(self, app: str) -> set[str]:
        status: AppNetworkStatus | None = self._tables[kinds.APP_NETWORK_STATUS.name].get(app)
        known = self._tables[kinds.NETWORK_INSTANCE_STATUS.name]
        return {vif.network for vif in status.vifs if vif.network in known} if status else set()

    def _enqueue(self, name: str, key: str) -> None:
        compose = self._composers[name]
        self._put(f"{name}/{key}", lambda: compose(key, self._tables[name].get(key)))

    def _enqueue_device(self) -> None:
        self._put(DEVICE, self._device)

    def _put(self, key: str, message: Callable[[], info.ZInfoMsg]) -> None:
        def compose() -> bytes:
            node = self._line.node
            if node is None:
                raise RuntimeError("info is composed after onboarding")
            at = self._line.context.clock.now()
            return reports.address(message(), node, at).SerializeToString()

        self.outbox.put(key, compose)
        self._bell.ring()

    def _enqueue_hardware(self) -> None:
        self._put("hardware", lambda: hardware(self._report()))

    async def _repeat_device(self) -> None:
        self._enqueue_hardware()
        while True:
            self._enqueue_device()
            await self._line.pause(self._line.interval("timer.deviceinfo.interval", 0.8, 1.2))

    # -- messages --

    def _app(self, key: str, status: AppInstanceStatus | None) -> info.ZInfoMsg:
        if status is None:
            return reports.app_gone(AppId(key))
        wanted = self._tables[kinds.APP_INSTANCE.name].get(key)
        network = self._tables[kinds.APP_NETWORK_STATUS.name].get(key)
        message = reports.app(status, wanted, network)
        fill_assigned(self._adapters(), self._adapter_users(), message.ainfo)
        return message

    def _network_instance(self, key: str, status: NetworkInstanceStatus | None) -> info.ZInfoMsg:
        if status is None:
            return reports.network_instance_gone(NetworkInstanceId(key))
        return reports.network_instance(
            status, self._tables[kinds.APP_NETWORK_STATUS.name].values()
        )

    def _volume(self, key: str, status: VolumeStatus | None) -> info.ZInfoMsg:
        if status is None:
            volume, _, generation = key.partition("#")
            return reports.volume_gone(VolumeId(volume), int(generation or 0))
        return reports.volume(status)

    def _content_tree(self, key: str, status: ContentTreeStatus | None) -> info.ZInfoMsg:
        if status is None:
            return reports.content_tree_gone(ContentTreeId(key))
        return reports.content_tree(status)

    def _blob(self, key: str, status: BlobStatus | None) -> info.ZInfoMsg:
        if status is None:
            return reports.blob_gone(Digest(key))
        return reports.blob(status)

    def _device(self) -> info.ZInfoMsg:
        return device(self._report())

    def _report(self) -> NodeReport:
        line = self._line
        context = line.context
        properties: dict[str, Property] = self._tables[kinds.PROPERTY.name]
        known = {name: value for name, value in properties.items() if name in RULES}
        unknown = {name: value for name, value in properties.items() if name not in RULES}
        facts = line.checkpoint.facts
        return NodeReport(
            inventory=readings.inventory(context.paths.checkpoint, line.identity.serial),
            boot=self._boot(),
            version=context.settings.version or __version__,
            slot=context.settings.slot,
            state=self._state(),
            port_configs=self._tables[kinds.PORT_CONFIG_LIST.name].get("node", PortConfigList()),
            network=self._tables[kinds.DEVICE_NETWORK_STATUS.name].get("node"),
            slots=tuple(self._tables[kinds.SLOT.name].values()),
            base_os=self._tables[kinds.BASE_OS_STATUS.name].get("node"),
            restarting="node" in self._tables[kinds.NODE_REBOOT.name],
            maintenance=bool(context.settings.lost) or in_maintenance(properties),
            hardware_watchdog=readings.has_watchdog(),
            properties=known,
            unknown_properties=unknown,
            apps=tuple(
                (key, status.name, self._domain_name(key))
                for key, status in self._tables[kinds.APP_INSTANCE_STATUS.name].items()
            ),
            reboot_counter=facts.reboot_counter or 0,
            shutdown_counter=facts.shutdown_counter or 0,
            root_hash=root_hash(context),
            attestation=_ATTESTATION[line.attestation],
            attestation_error=line.attest_trouble,
            module=self._tables[kinds.SECURITY_MODULE.name].get("node"),
            vault=self._tables[kinds.VAULT_STATUS.name].get("vault"),
            acceleration=self._acceleration(),
            adapters=self._adapters(),
            adapter_users=self._adapter_users(),
            devices=self._tables[kinds.MACHINE_DEVICES.name].get("node"),
        )

    def _state(self) -> info.ZDeviceState:
        operation = self._line.wanted_operation or self._line.operation
        update: BaseOsStatus | None = self._tables[kinds.BASE_OS_STATUS.name].get("node")
        if operation is not None and operation.what != "reboot":
            return info.ZDEVICE_STATE_POWERING_OFF
        if operation is not None or "node" in self._tables[kinds.NODE_REBOOT.name]:
            return info.ZDEVICE_STATE_REBOOTING
        if update is not None and update.updating:
            return info.ZDEVICE_STATE_BASEOS_UPDATING
        properties = self._tables[kinds.PROPERTY.name]
        if self._line.context.settings.lost or in_maintenance(properties):
            return info.ZDEVICE_STATE_MAINTENANCE_MODE
        return info.ZDEVICE_STATE_ONLINE

    def _adapters(self) -> tuple[AdapterGroup, ...]:
        uses = self._tables[kinds.ADAPTER_USE.name]
        groups = self._tables[kinds.ADAPTER_GROUP.name]
        return tuple(as_used(group, uses.get(name)) for name, group in groups.items())

    def _adapter_users(self) -> dict[str, AppId]:
        return {name: use.app for name, use in self._tables[kinds.ADAPTER_USE.name].items()}

    def _acceleration(self) -> str:
        capacity = self._tables[kinds.HOST_CAPACITY.name].get("node")
        return capacity.acceleration if capacity else ""

    def _domain_name(self, key: str) -> str:
        status = self._tables[kinds.DOMAIN_STATUS.name].get(key)
        return status.name if status else ""

    def _boot(self) -> Boot:
        known = self._line.boot()
        return known or Boot(at=self._line.status.since if self._line.status else 0.0)

    # -- delivery --

    async def _deliver(self) -> None:
        clock = self._line.context.clock
        while True:
            waiting = self.outbox.wait(clock.monotonic())
            if waiting is None or waiting > 0:
                await self._line.pause(waiting if waiting is not None else 3600.0, self._bell)
                await clock.sleep(CALM)
                continue
            await self._deliver_one()

    async def _deliver_one(self) -> None:
        clock = self._line.context.clock
        found = self.outbox.next(clock.monotonic())
        if found is None:
            return
        key, turn, message = found
        try:
            reply = await self._line.link.post(f"/id/{self._line.node}/info", message)
        except Failure as failure:
            _log.info("info waits: %s", failure)
            self.outbox.unreachable(clock.monotonic(), UNREACHABLE)
            return
        self.outbox.reachable()
        outcome = self.outbox.answered(key, turn, reply.status, clock.monotonic())
        if outcome is Delivery.DROP:
            _log.error("info of %s is dropped: %s", key, in_words(reply.status))
