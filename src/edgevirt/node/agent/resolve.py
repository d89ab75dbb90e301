"""The config → every kind that the other services read. Missing means: delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from edgevirt.model import kinds
from edgevirt.model.node import DeviceConfig, Property
from edgevirt.model.port_config import port_config
from edgevirt.model.ports import PortSource
from edgevirt.node.agent.properties import resolve
from edgevirt.runtime import Again, Inputs, Kind, Output
from edgevirt.wire.convert.hardware import device_of

MAINTENANCE = "maintenance.mode"
_SYSTEM: Final = (kinds.DATASTORE, kinds.CONTENT_TREE, kinds.CIPHER_CONTEXT, kinds.BASE_OS)


class Resolve:
    """In maintenance mode only properties are followed; all else stays as it was.

    A repair config, of a controller that bars the node, says which system it is to have; all else
    it leaves alone.
    """

    name = "resolve"
    held = False
    """As in maintenance mode, whatever the properties say: what should be kept cannot be."""
    given: tuple[tuple[str, str], ...] = ()
    """Properties of the node's own files, (name, value)."""
    reads: tuple[Kind[Any], ...] = (
        kinds.DEVICE_CONFIG,
        kinds.REPAIR_CONFIG,
        kinds.GIVEN_PROPERTIES,
    )
    owns: tuple[Kind[Any], ...] = (
        kinds.DATASTORE,
        kinds.CONTENT_TREE,
        kinds.VOLUME,
        kinds.NETWORK_INSTANCE,
        kinds.APP_INSTANCE,
        kinds.CIPHER_CONTEXT,
        kinds.PORT,
        kinds.PHYSICAL_IO,
        kinds.BASE_OS,
        kinds.ACCESS_CONFIG,
        kinds.PORT_CONFIG,
        kinds.PROPERTY,
    )

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        config = inputs.get(kinds.DEVICE_CONFIG, "node")
        before = inputs.all(kinds.PROPERTY)
        properties = resolve(config.properties if config else self._before_any(inputs), before)
        for name, value in properties.items():
            yield Output(kinds.PROPERTY, name, value)
        repair = inputs.get(kinds.REPAIR_CONFIG, "node")
        if self.held or in_maintenance(properties):
            yield from self._as_before(inputs)
            return
        things = self._as_before(inputs) if config is None else _things(config)
        yield from things if repair is None else _repaired(things, repair)

    def _before_any(self, inputs: Inputs) -> tuple[tuple[str, str], ...]:
        """What a controller signed for this node counts for more than a file that anybody wrote."""
        bootstrap = inputs.get(kinds.GIVEN_PROPERTIES, "node")
        return (*self.given, *(bootstrap.items if bootstrap else ()))

    def _as_before(self, inputs: Inputs) -> Iterator[Output]:
        for kind in self.owns:
            if kind is not kinds.PROPERTY:
                for key, value in inputs.all(kind).items():
                    yield Output(kind, key, value)


def _repaired(things: Iterable[Output], repair: DeviceConfig) -> Iterator[Output]:
    """With the system that the repair config has, and what that is made of."""
    system = {
        (output.kind.name, output.key): output
        for output in _things(repair)
        if output.kind in _SYSTEM
    }
    yield from (output for output in things if (output.kind.name, output.key) not in system)
    yield from system.values()


def _things(config: DeviceConfig) -> Iterator[Output]:
    for store in config.datastores:
        yield Output(kinds.DATASTORE, store.id, store)
    for tree in config.content_trees:
        yield Output(kinds.CONTENT_TREE, tree.id, tree)
    contents = {tree.id: tree.content for tree in config.content_trees}
    for volume in config.volumes:
        content = contents.get(volume.content_tree, "") if volume.content_tree else ""
        yield Output(kinds.VOLUME, volume.key, replace(volume, content=content))
    for instance in config.network_instances:
        yield Output(kinds.NETWORK_INSTANCE, instance.id, instance)
    for app in config.apps:
        yield Output(kinds.APP_INSTANCE, app.id, app)
    for context in config.cipher_contexts:
        yield Output(kinds.CIPHER_CONTEXT, context.id, context)
    if config.base_os is not None:
        yield Output(kinds.BASE_OS, "node", config.base_os)
    if config.access is not None:
        yield Output(kinds.ACCESS_CONFIG, "node", config.access)
    for port in config.ports:
        yield Output(kinds.PORT, port.name, port)
    yield from _devices(config)
    wanted = port_config(PortSource.CONTROLLER, config.timestamp, config.ports, config.networks)
    if wanted is not None:
        yield Output(kinds.PORT_CONFIG, PortSource.CONTROLLER, wanted)


def _devices(config: DeviceConfig) -> Iterable[Output]:
    """By label; a second one of a label gets a key of its own, so that it can be complained of."""
    of_ports = [device for port in config.ports if (device := device_of(port)) is not None]
    counts: Counter[str] = Counter()
    for device in (*of_ports, *config.devices):
        key = device.label or device.phylabel or "/"
        counts[key] += 1
        yield Output(kinds.PHYSICAL_IO, key if counts[key] == 1 else f"{key}/{counts[key]}", device)


def in_maintenance(properties: Mapping[str, Property]) -> bool:
    found = properties.get(MAINTENANCE)
    return found is not None and found.value == "enabled"
