"""App: what to run. An AppInstance runs it on a node."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress

from edgevirt.fleet.objects.app_device import FOR_CONTAINED, AppDevice, check_devices
from edgevirt.fleet.objects.app_snapshots import AppSnapshots, validate_snapshots
from edgevirt.fleet.objects.app_vnc import AppVnc, check_vnc
from edgevirt.fleet.objects.base import ApiObject, ApiStruct, Condition
from edgevirt.fleet.objects.columns import AGE, NAME, Column
from edgevirt.fleet.objects.content import check_size
from edgevirt.fleet.objects.names import check_label
from edgevirt.fleet.objects.network_instance import check_address
from edgevirt.fleet.objects.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.model.app import LEAST_CONTAINED_KIB
from edgevirt.model.quantity import Quantity, parse, whole

CONTAINER = "Container"
VM = "VM"
UNIKERNEL = "Unikernel"
TYPES = (CONTAINER, VM, UNIKERNEL)
DEVICES = ("Disk", "CDROM", "Floppy")
FIRMWARES = ("", "BIOS", "UEFI")
OWN_SIZE = "100Mi"
MOST_USER_DATA = 64 * 1024
"""Characters: it travels in each config of the node."""
BARE = "None"
VIRTUALIZATIONS = (BARE, "PV", "HVM", "FML", "Legacy")
PROTOCOLS = ("TCP", "UDP")
ACL_PROTOCOLS = ("TCP", "UDP", "ICMP")
ACTIONS = ("Allow", "Drop", "Limit")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class EnvVar(ApiStruct, frozen=True, kw_only=True):
    """One variable of the environment."""

    merge_keys = ("name",)

    name: str = ""
    """Its name."""
    value: str = ""
    """Its value. Kept in clear: no place for a password."""


class AppResources(ApiStruct, frozen=True, kw_only=True):
    """What the app may use."""

    cpu: Quantity = 1
    """Number of CPUs, whole."""
    memory: Quantity = "256Mi"
    """Memory, such as `512Mi`."""
    disk: Quantity = 0
    """What a container may write outside its volumes, at least `64Mi`; 0: a quarter of what the
    node has left, up to `1Gi`. Of a virtual machine: its first disk is at least as big. A change
    counts after a purge."""
    real_time: bool = False
    """Its CPUs are processors of the node's that nothing else runs on, and its memory is there from
    the start. It starts only where that can be held."""


class AppVolume(ApiStruct, frozen=True, kw_only=True):
    """A place for data that outlives restarts; a purge makes it new."""

    merge_keys = ("name",)

    name: str = ""
    """Its name within the app."""
    size: Quantity = OWN_SIZE
    """Room for data, such as `1Gi`; one made from an Image is at least as big as that."""
    volume: str = ""
    """The Volume that it is, on the same node, instead of one of the app's own: a purge leaves it
    as it is, and it stays when the app goes."""
    mount_path: str = ""
    """Where a container sees it: an absolute path."""
    image: str = ""
    """The Image that it is made from; empty: it is blank."""
    device: str = ""
    """What it is to a virtual machine: `Disk` (also when empty), `CDROM` or `Floppy`."""


class PortMap(ApiStruct, frozen=True, kw_only=True):
    """A port of the node that leads to the app."""

    merge_keys = (
        "nodePort",
        "protocol",
    )

    protocol: str = "TCP"
    """`TCP` or `UDP`."""
    node_port: int = 0
    """Port on the node, 1 to 65535."""
    app_port: int = 0
    """Port of the app, 1 to 65535."""


class AclMatch(ApiStruct, frozen=True, kw_only=True):
    """Which traffic a rule is about; empty: all of it."""

    ip: str = ""
    """Addresses of the other side: `192.0.2.0/24`."""
    host: str = ""
    """Name of the other side, with all below it: `example.com`."""
    protocol: str = ""
    """`TCP`, `UDP` or `ICMP`."""
    local_port: int = 0
    """The app's port; 0: any."""
    remote_port: int = 0
    """Port of the other side; 0: any."""


class AclLimit(ApiStruct, frozen=True, kw_only=True):
    """How many packets may pass."""

    rate: int = 0
    """Packets per unit."""
    unit: str = "s"
    """`s`, `m`, `h` or `d`."""
    burst: int = 0
    """Packets that may come at once."""


class AppAcl(ApiStruct, frozen=True, kw_only=True):
    """One rule; the first that matches decides."""

    match: AclMatch = AclMatch()
    """Which traffic."""
    action: str = "Allow"
    """`Allow`, `Drop` or `Limit`."""
    limit: AclLimit | None = None
    """For `Limit`."""


class AppInterface(ApiStruct, frozen=True, kw_only=True):
    """One network interface of the app."""

    merge_keys = ("name",)

    name: str = ""
    """Its name within the app."""
    network_instance: str = ""
    """The NetworkInstance that it is on."""
    ip: str = ""
    """A static address in that network; empty: DHCP."""
    mac: str = ""
    """A static hardware address; empty: made by the node."""
    ports: tuple[PortMap, ...] = ()
    """Ports of the node that lead to the app."""
    acls: tuple[AppAcl, ...] | None = None
    """Rules for the app's traffic; what no rule matches is dropped. Absent: all is allowed."""


class AppSpec(ApiStruct, frozen=True, kw_only=True):
    """What to run."""

    type: str = CONTAINER
    """`Container`; `VM`, whose image is a disk; or `Unikernel`, whose image is a kernel."""
    image: str = ""
    """The Image to run."""
    command: tuple[str, ...] = ()
    """The program and its arguments instead of the image's own; of a unikernel its command line."""
    ramdisk: str = ""
    """Of a unikernel: the Image of its initial RAM disk."""
    user_data: str = ""
    """Of a virtual machine: what cloud-init in it is to do, such as a text that begins with
    `#cloud-config`. Kept in clear: no place for a password."""
    firmware: str = ""
    """Of a virtual machine: `BIOS` or `UEFI`; empty: as `virtualization` says."""
    env: tuple[EnvVar, ...] = ()
    """Variables of the environment, besides the image's own. `EDGEVIRT_NODE`, `EDGEVIRT_APP` and
    `EDGEVIRT_PROJECT` are there anyway: where the app runs."""
    resources: AppResources = AppResources()
    """What it may use."""
    volumes: tuple[AppVolume, ...] = ()
    """Places for its data."""
    interfaces: tuple[AppInterface, ...] = ()
    """Its network interfaces."""
    devices: tuple[AppDevice, ...] = ()
    """Devices of the node that it has for itself. A change restarts the app; its data stays."""
    virtualization: str = ""
    """What it is kept in: a virtual machine, `PV` (also when empty) or `HVM` (with a BIOS), `FML`
    (with UEFI), or `Legacy`, which has the hardware of twenty years ago for systems that know no
    other; or `None`: a container on the node's own kernel. A container in a machine has a kernel of
    its own, whichever of `PV`, `HVM` and `FML` is named."""
    vnc: AppVnc | None = None
    """Its screen at a port of the node; absent: at none."""
    start_delay_seconds: int = 0
    """How long to wait after the node's boot."""
    snapshots: AppSnapshots = AppSnapshots()
    """What is kept of it before each update."""


class AppStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class App(ApiObject, frozen=True, kw_only=True):
    """What to run."""

    spec: AppSpec = AppSpec()
    """What to run, and with what."""
    status: AppStatus = AppStatus()
    """What is known of it."""

    @property
    def cpus(self) -> int:
        return whole(self.spec.resources.cpu)

    @property
    def virtualization(self) -> str:
        """As it applies."""
        return self.spec.virtualization or "PV"

    @property
    def images(self) -> tuple[str, ...]:
        """Names of all Images that it is made from, its own first."""
        more = (self.spec.ramdisk, *(volume.image for volume in self.spec.volumes))
        return tuple(dict.fromkeys(filter(None, (self.spec.image, *more))))

    @property
    def named_volumes(self) -> tuple[str, ...]:
        """Names of the Volumes that it uses."""
        return tuple(volume.volume for volume in self.spec.volumes if volume.volume)

    @property
    def memory_bytes(self) -> int:
        return whole(self.spec.resources.memory)


def validate(app: App) -> Iterator[Problem]:
    spec = app.spec
    if spec.type not in TYPES:
        yield unsupported("spec.type", spec.type, TYPES)
    if not spec.image:
        yield required("spec.image", "the name of an Image")
    if app.virtualization not in VIRTUALIZATIONS:
        yield unsupported("spec.virtualization", spec.virtualization, VIRTUALIZATIONS)
    elif spec.type in TYPES:
        yield from _check_type(app)
    if not 0 <= spec.start_delay_seconds <= 86400:
        yield invalid("spec.startDelaySeconds", spec.start_delay_seconds, "must be 0 to 86400")
    for index, word in enumerate(spec.command):
        if "\n" in word or "\0" in word:
            yield invalid(f"spec.command[{index}]", word, "must be one line")
    yield from _check_env(spec.env)
    yield from _check_resources(spec.resources)
    yield from _check_volumes(spec.volumes, container=spec.type not in (VM, UNIKERNEL))
    yield from _check_interfaces(spec.interfaces)
    yield from check_devices(
        spec.devices,
        bare=app.virtualization == BARE,
        legacy=app.virtualization == "Legacy",
    )
    yield from check_vnc(spec.vnc, machine=spec.type == VM)
    yield from validate_snapshots(spec.snapshots)


def warn(app: App, old: App | None) -> Iterator[str]:
    """What it means, or a change of it, that is no mistake. `old`: None when it is new."""
    if app.spec.type != CONTAINER:
        return
    bare = app.virtualization == BARE
    for index, device in enumerate(app.spec.devices):
        if not bare and device.type not in FOR_CONTAINED:
            yield (
                f"spec.devices[{index}]: edgevirt's nodes give no {device.type} to a container in a"
                " virtual machine; one with virtualization None can have it"
            )
    if bare and old is not None and old.virtualization != BARE:
        yield (
            "spec.virtualization: nodes do not mount what a virtual machine wrote; the app's "
            "instances start again after a purge, which makes their data new"
        )


def _check_type(app: App) -> Iterator[Problem]:
    """What an app of its type cannot have."""
    spec = app.spec
    container, machine = spec.type == CONTAINER, spec.type == VM
    if container and app.virtualization == "Legacy":
        why = "a container in a virtual machine starts with the node's own kernel, which is not old"
        yield invalid("spec.virtualization", spec.virtualization, why)
    if container and app.virtualization != BARE:
        yield from _check_memory_of_contained(spec.resources)
    if not container and app.virtualization == BARE:
        yield invalid(
            "spec.virtualization", spec.virtualization, "a container alone can do without"
        )
    if machine and spec.command:
        yield invalid("spec.command", " ".join(spec.command), "its own disk says what it runs")
    if not container and spec.env:
        yield invalid("spec.env", spec.env[0].name, "of a container only; see userData")
    if spec.user_data and not machine:
        yield invalid("spec.userData", spec.user_data[:20], "of a virtual machine only; see env")
    if len(spec.user_data) > MOST_USER_DATA:
        why = f"must not be longer than {MOST_USER_DATA} characters"
        yield invalid("spec.userData", f"{len(spec.user_data)} characters", why)
    if spec.firmware not in FIRMWARES:
        yield unsupported("spec.firmware", spec.firmware, FIRMWARES[1:])
    elif spec.firmware and not machine:
        yield invalid("spec.firmware", spec.firmware, "of a virtual machine only")
    elif spec.firmware == "UEFI" and app.virtualization == "Legacy":
        yield invalid("spec.firmware", spec.firmware, "legacy hardware has a BIOS")
    if spec.ramdisk and spec.type != UNIKERNEL:
        yield invalid("spec.ramdisk", spec.ramdisk, "of a unikernel only")


def _check_memory_of_contained(resources: AppResources) -> Iterator[Problem]:
    with suppress(ValueError):  # which is told elsewhere
        if parse(resources.memory) < LEAST_CONTAINED_KIB * 1024:
            why = (
                f"a container in a virtual machine needs {LEAST_CONTAINED_KIB // 1024}Mi at least; "
                f"one with virtualization {BARE} needs less"
            )
            yield invalid("spec.resources.memory", resources.memory, why)


def _check_env(env: tuple[EnvVar, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, variable in enumerate(env):
        field = f"spec.env[{index}].name"
        if not variable.name:
            yield required(field)
        elif not _ENV_NAME.fullmatch(variable.name):
            yield invalid(field, variable.name, "must be letters, digits, '_', '.' or '-'")
        elif variable.name in seen:
            yield duplicate(field, variable.name)
        if "\n" in variable.value or "\0" in variable.value:
            yield invalid(f"spec.env[{index}].value", variable.value, "must be one line")
        seen.add(variable.name)


def _check_resources(resources: AppResources) -> Iterator[Problem]:
    try:
        cpus = parse(resources.cpu)
    except ValueError as error:
        yield invalid("spec.resources.cpu", resources.cpu, str(error))
    else:
        if cpus != int(cpus) or not 1 <= cpus <= 1024:
            why = "must be a whole number of CPUs, at least 1"
            yield invalid("spec.resources.cpu", resources.cpu, why)
    yield from check_size("spec.resources.memory", resources.memory, least=4 * 2**20)
    yield from check_size("spec.resources.disk", resources.disk, least=0)


def _check_volumes(volumes: tuple[AppVolume, ...], *, container: bool) -> Iterator[Problem]:
    names: set[str] = set()
    mounts: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        yield from check_label(f"{path}.name", volume.name)
        if volume.name in names:
            yield duplicate(f"{path}.name", volume.name)
        yield from check_size(f"{path}.size", volume.size, least=2**20)
        names.add(volume.name)
        if volume.volume:
            yield from _check_named(path, volume)
        if not container:
            yield from _check_device(path, volume)
            continue
        if volume.image or volume.device:
            field, given = ("image", volume.image) if volume.image else ("device", volume.device)
            yield invalid(f"{path}.{field}", given, "of a virtual machine only")
        mount = volume.mount_path
        if not mount:
            yield required(f"{path}.mountPath", "an absolute path in the app")
        elif not mount.startswith("/") or mount == "/" or ".." in mount.split("/"):
            yield invalid(f"{path}.mountPath", mount, "must be an absolute path below /, no '..'")
        elif mount.rstrip("/") in mounts:
            yield duplicate(f"{path}.mountPath", mount)
        mounts.add(mount.rstrip("/"))


def _check_named(path: str, volume: AppVolume) -> Iterator[Problem]:
    why = f"Volume {volume.volume!r} says it"
    if volume.image:
        yield invalid(f"{path}.image", volume.image, why)
    if volume.size != OWN_SIZE:
        yield invalid(f"{path}.size", volume.size, why)


def _check_device(path: str, volume: AppVolume) -> Iterator[Problem]:
    if volume.mount_path:
        why = "a virtual machine mounts its disks itself"
        yield invalid(f"{path}.mountPath", volume.mount_path, why)
    if volume.device not in ("", *DEVICES):
        yield unsupported(f"{path}.device", volume.device, DEVICES)
    elif volume.device in ("CDROM", "Floppy") and not (volume.image or volume.volume):
        yield required(f"{path}.image", f"what is in the {volume.device}")


def _check_interfaces(interfaces: tuple[AppInterface, ...]) -> Iterator[Problem]:
    names: set[str] = set()
    taken: set[tuple[str, int]] = set()
    for index, interface in enumerate(interfaces):
        path = f"spec.interfaces[{index}]"
        yield from check_label(f"{path}.name", interface.name)
        if interface.name in names:
            yield duplicate(f"{path}.name", interface.name)
        names.add(interface.name)
        if not interface.network_instance:
            yield required(f"{path}.networkInstance", "the name of a NetworkInstance")
        if interface.ip:
            yield from check_address(f"{path}.ip", interface.ip)
        if interface.mac and not re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", interface.mac):
            yield invalid(f"{path}.mac", interface.mac, "must be like 02:16:3e:00:00:01")
        yield from _check_ports(path, interface.ports, taken)
        for i, acl in enumerate(interface.acls or ()):
            yield from _check_acl(f"{path}.acls[{i}]", acl)


def _check_ports(
    path: str, ports: tuple[PortMap, ...], taken: set[tuple[str, int]]
) -> Iterator[Problem]:
    for index, port in enumerate(ports):
        here = f"{path}.ports[{index}]"
        if port.protocol not in PROTOCOLS:
            yield unsupported(f"{here}.protocol", port.protocol, PROTOCOLS)
        for field, number in (("nodePort", port.node_port), ("appPort", port.app_port)):
            if not 1 <= number <= 65535:
                yield invalid(f"{here}.{field}", number, "must be between 1 and 65535")
        if (port.protocol, port.node_port) in taken:
            yield duplicate(f"{here}.nodePort", port.node_port)
        taken.add((port.protocol, port.node_port))


def _check_acl(path: str, acl: AppAcl) -> Iterator[Problem]:
    match = acl.match
    if acl.action not in ACTIONS:
        yield unsupported(f"{path}.action", acl.action, ACTIONS)
    if match.protocol and match.protocol not in ACL_PROTOCOLS:
        yield unsupported(f"{path}.match.protocol", match.protocol, ACL_PROTOCOLS)
    for field, number in (("localPort", match.local_port), ("remotePort", match.remote_port)):
        if not 0 <= number <= 65535:
            yield invalid(f"{path}.match.{field}", number, "must be between 0 and 65535")
        elif number and match.protocol not in PROTOCOLS:
            yield required(f"{path}.match.protocol", "a port needs TCP or UDP")
    if match.ip:
        try:
            ipaddress.ip_network(match.ip, strict=False)
        except ValueError:
            yield invalid(f"{path}.match.ip", match.ip, "must be like 192.0.2.0/24")
    if match.ip and match.host:
        yield invalid(f"{path}.match.host", match.host, "must not be given together with ip")
    if acl.action == "Limit":
        if acl.limit is None:
            yield required(f"{path}.limit")
        elif acl.limit.rate <= 0 or acl.limit.unit not in ("s", "m", "h", "d"):
            yield invalid(
                f"{path}.limit", acl.limit.unit, "must have a rate, and unit s, m, h or d"
            )


COLUMNS = (
    NAME,
    Column("Type", lambda a, _: a.spec.type),
    Column("Image", lambda a, _: a.spec.image),
    Column("CPU", lambda a, _: str(a.spec.resources.cpu)),
    Column("Memory", lambda a, _: str(a.spec.resources.memory)),
    Column("Virtualization", lambda a, _: a.virtualization, priority=1),
    AGE,
)
