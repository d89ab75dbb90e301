"""Rendering apps: what they may use, their volumes, their interfaces and rules. Pure."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.fleet.objects.app.app import BARE, CONTAINER, UNIKERNEL, App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.app.interface import AppAcl, AppInterface
from edgevirt.fleet.objects.app.order import make_order
from edgevirt.fleet.render import devices, screens, volumes
from edgevirt.fleet.render.nouns import (
    COUNTERS,
    RAMDISK,
    ROOT,
    Objects,
    app_id,
    network_id,
    number,
    root_generation,
    volume_id,
)
from edgevirt.fleet.render.snapshots import snapshot_wish
from edgevirt.model import app as app_model
from edgevirt.model import network
from edgevirt.model.domain import BootMode, BootOrder, VirtualizationMode

_DEVICES: Final = {"CDROM": "/dev/cdrom", "Floppy": "/dev/fd0"}
"""A virtual machine mounts nothing by itself; so this is where a volume says what it is."""
_FIRMWARES: Final = {
    "": BootMode.UNSPECIFIED,
    "BIOS": BootMode.LEGACY,
    "UEFI": BootMode.UEFI,
}
_BOOT_ORDERS: Final = {
    "": BootOrder.UNSPECIFIED,
    "USB": BootOrder.USB,
    "NoUSB": BootOrder.NO_USB,
}
_KIB: Final = 1024
_MODES: Final = {
    BARE: VirtualizationMode.NOHYPER,
    "PV": VirtualizationMode.PV,
    "HVM": VirtualizationMode.HVM,
    "FML": VirtualizationMode.FML,
    "Legacy": VirtualizationMode.LEGACY,
}
_ANYWHERE: Final = (("ip", "0.0.0.0/0"),)


def app_instance(instance: AppInstance, app: App, objects: Objects) -> app_model.AppInstance:
    spec = app.spec
    order = make_order(spec.interface_order, spec.interfaces, spec.devices)
    refs = tuple(_volume_refs(instance, app, objects))
    resources = _resources(instance, app)
    adapters = devices.adapters(app, order.devices)
    user_data = _user_data(instance, app)
    block = screens.sealed(app, user_data, objects)
    staged: list[object] = [(i.name, i.network_instance, i.ip, i.mac) for i in spec.interfaces]
    if spec.interface_order:
        staged.append(order)
    restarts = instance.spec.restart_counter + number(resources, user_data, staged)
    restart_counter = restarts % COUNTERS
    purge_counter = (instance.spec.purge_counter + number(refs, *adapters)) % COUNTERS
    return app_model.AppInstance(
        id=app_id(instance),
        name=instance.metadata.name,
        version=str(app.metadata.generation),
        activate=instance.spec.activate and objects.node.spec.activate,
        resources=resources,
        volumes=refs,
        interfaces=tuple(
            _interface(part, order.interfaces.get(part.name, 0), objects)
            for part in spec.interfaces
        ),
        adapters=adapters,
        restart_counter=restart_counter,
        purge_counter=purge_counter,
        snapshot=snapshot_wish(instance, app, restart_counter, purge_counter),
        user_data="" if block is not None else user_data,
        cipher=block,
        delay=spec.start_delay_seconds,
    )


def _resources(instance: AppInstance, app: App) -> app_model.Resources:
    spec = app.spec
    memory = -(-app.memory_bytes // _KIB)
    resources = app_model.Resources(
        memory_kib=memory,
        max_memory_kib=memory,
        vcpus=app.cpus,
        mode=_MODES[app.virtualization],
        boot_mode=_FIRMWARES[spec.firmware],
        boot_order=_BOOT_ORDERS[spec.boot_order],
        ordered=bool(spec.interface_order),
        dedicated=spec.resources.real_time,
        tpm=devices.has_tpm(app),
        vnc=screens.screen(instance, app),
    )
    if spec.type != UNIKERNEL:
        return resources
    return replace(
        resources,
        kernel=volume_id(instance, ROOT),
        ramdisk=volume_id(instance, RAMDISK) if spec.ramdisk else "",
        kernel_arguments=" ".join(spec.command),  # no shell reads it
    )


def _volume_refs(
    instance: AppInstance, app: App, objects: Objects
) -> Iterator[app_model.VolumeRef]:
    """The root first."""

    def of_image(name: str, image: str, device: str = "") -> app_model.VolumeRef:
        return app_model.VolumeRef(
            volume=volume_id(instance, name),
            generation=root_generation(instance, objects.images[image]),
            mount_dir=_DEVICES.get(device, ""),
        )

    yield of_image(ROOT, app.spec.image)
    if app.spec.ramdisk:
        yield of_image(RAMDISK, app.spec.ramdisk)
    for wanted in app.spec.volumes:
        if wanted.volume:
            mount_dir = wanted.mount_path or _DEVICES.get(wanted.device, "")
            yield volumes.reference(wanted, mount_dir, objects)
            continue
        if wanted.image:
            yield of_image(wanted.name, wanted.image, wanted.device)
            continue
        yield app_model.VolumeRef(
            volume=volume_id(instance, wanted.name),
            generation=instance.spec.purge_counter,
            mount_dir=wanted.mount_path,
        )


def _user_data(instance: AppInstance, app: App) -> str:
    """Of a container the environment: where the app runs, then what it asks for, which may say
    otherwise. Of a virtual machine what cloud-init is told.
    """
    if app.spec.type != CONTAINER:
        return base64.b64encode(app.spec.user_data.encode()).decode()
    where = {
        "EDGEVIRT_APP": instance.metadata.name,
        "EDGEVIRT_NODE": instance.spec.edge_node,
        "EDGEVIRT_PROJECT": instance.metadata.namespace,
    }
    named = where | {variable.name: variable.value for variable in app.spec.env}
    lines = [f"{name}={value}" for name, value in named.items()]
    if app.spec.command:
        lines.append(f"EVE_ECO_CMD={shlex.join(app.spec.command)}")
    return base64.b64encode("\n".join(lines).encode()).decode()


def _interface(wanted: AppInterface, order: int, objects: Objects) -> network.AppInterface:
    rules = [*_port_maps(wanted)]
    if wanted.acls is None:
        rules.append(network.Acl(id=0, matches=_ANYWHERE))
    else:
        rules.extend(map(_acl, wanted.acls))
    return network.AppInterface(
        name=wanted.name,
        network=network_id(objects.networks[wanted.network_instance], objects.node),
        mac=wanted.mac.lower(),
        ip=wanted.ip,
        order=order,
        acls=tuple(
            msgspec.structs.replace(rule, id=number) for number, rule in enumerate(rules, 1)
        ),
    )


def _port_maps(wanted: AppInterface) -> Iterator[network.Acl]:
    for port in wanted.ports:
        yield network.Acl(
            id=0,
            matches=(("protocol", port.protocol.lower()), ("lport", str(port.node_port))),
            action=network.AclAction.PORTMAP,
            app_port=port.app_port,
        )


def _acl(rule: AppAcl) -> network.Acl:
    match = rule.match
    matches = [
        (kind, value)
        for kind, value in (
            ("ip", match.ip),
            ("host", match.host),
            ("protocol", match.protocol.lower()),
            ("lport", str(match.local_port or "")),
            ("fport", str(match.remote_port or "")),
        )
        if value
    ]
    limit = rule.limit
    return network.Acl(
        id=0,
        matches=tuple(matches) or _ANYWHERE,
        action=network.AclAction(rule.action.lower()),
        limit_rate=limit.rate if limit else 0,
        limit_unit=limit.unit if limit else "",
        limit_burst=limit.burst if limit else 0,
    )
