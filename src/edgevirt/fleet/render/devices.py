"""Rendering devices: the node's hardware model, and what apps get of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.device import TPM, AppDevice
from edgevirt.fleet.objects.node.can import settings
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import TYPES, USAGES, HardwareModel, ModelAdapter
from edgevirt.model.hardware import Adapter, Addresses, IoType, PhysicalIo
from edgevirt.model.node import Port
from edgevirt.model.sriov import FunctionSettings
from edgevirt.wire.convert.hardware import rest_of_port


def adapters(app: App, order: Mapping[str, int]) -> tuple[Adapter, ...]:
    """`order`: by name."""
    return tuple(
        Adapter(
            name=device.adapter,
            type=TYPES.get(device.type, IoType.OTHER),
            function=_function(device),
            order=order.get(device.name, 0),
        )
        for device in app.spec.devices
        if device.type != TPM
    )


def _function(device: AppDevice) -> FunctionSettings | None:
    if not device.mac and not device.vlan:
        return None
    return FunctionSettings(mac=device.mac.lower(), vlan=device.vlan)


def has_tpm(app: App) -> bool:
    return any(device.type == TPM for device in app.spec.devices)


def lacking(app: App, node: EdgeNode, model: HardwareModel | None) -> str:
    """Why the node cannot give the app what it asks for; empty: it can, as far as is known."""
    wanted = [device for device in app.spec.devices if device.type != TPM]
    if not wanted:
        return ""
    if not node.spec.hardware_model:
        return f"EdgeNode {node.metadata.name!r} has no hardwareModel, and the app wants devices"
    if model is None:
        return f"HardwareModel {node.spec.hardware_model!r} does not exist"
    for device in wanted:
        name, has = model.metadata.name, model.types(device.adapter)
        if not has:
            return f"HardwareModel {name!r} has no adapter group {device.adapter!r}"
        if device.type not in has:
            kinds = ", ".join(sorted(has))
            return f"adapter group {device.adapter!r} of HardwareModel {name!r} is {kinds}, "\
                   f"not {device.type}"  # fmt: skip
    return ""


def devices(model: HardwareModel | None, ports: Iterable[Port]) -> tuple[PhysicalIo, ...]:
    """Those that no port is."""
    taken = list(ports)
    return tuple(
        _physical_io(one)
        for one in (model.spec.adapters if model is not None else ())
        if not any(_is(one, port) for port in taken)
    )


def with_model(ports: Iterable[Port], model: HardwareModel | None) -> Iterator[Port]:
    """The ports, with what the model has of them: the group above all."""
    known = model.spec.adapters if model is not None else ()
    for port in ports:
        found = next((one for one in known if _is(one, port)), None)
        if found is None:
            yield port
            continue
        device = _physical_io(found)
        named = PhysicalIo(
            label=port.name,
            phylabel=device.phylabel,
            type=device.type,
            group=device.group,
            parent_group=device.parent_group,
            usage=device.usage,
            addresses=device.addresses,
            settings=device.settings,
            function_count=device.function_count,
        )
        yield Port(
            name=port.name,
            ifname=port.ifname or device.addresses.interface,
            uplink=port.uplink,
            cost=port.cost,
            network=port.network,
            address=port.address,
            type=device.type,
            rest_io=rest_of_port(named),
            rest_adapter=port.rest_adapter,
        )


def _is(adapter: ModelAdapter, port: Port) -> bool:
    """By its name or its interface."""
    interface = adapter.addresses.interface
    return adapter.name == port.name or bool(interface and interface == port.ifname)


def _physical_io(adapter: ModelAdapter) -> PhysicalIo:
    at = adapter.addresses
    return PhysicalIo(
        label=adapter.name,
        phylabel=adapter.label or adapter.name,
        type=TYPES[adapter.type],
        group=adapter.group,
        parent_group=adapter.parent_group,
        usage=USAGES[adapter.usage],
        addresses=Addresses(
            pci=at.pci,
            interface=at.interface,
            usb_port=at.usb_port,
            usb_product=at.usb_product,
            serial=at.serial,
            gpio=at.gpio,
        ),
        settings=settings(adapter.can),
        function_count=adapter.virtual_functions,
    )
