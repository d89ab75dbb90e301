"""App: what to run. An AppInstance runs it on a node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from edgevirt.fleet.objects.app.device import TPM, AppDevice, check_devices
from edgevirt.fleet.objects.app.interface import AppInterface, check_interfaces
from edgevirt.fleet.objects.app.lowered import warn_lowered, warn_of_volumes
from edgevirt.fleet.objects.app.order import check_boot_order, check_interface_order
from edgevirt.fleet.objects.app.snapshots import AppSnapshots, validate_snapshots
from edgevirt.fleet.objects.app.vnc import AppVnc, check_vnc
from edgevirt.fleet.objects.app.volume import AppVolume, check_volumes
from edgevirt.fleet.objects.base.amounts import check_size
from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.model.app import least_contained_kib
from edgevirt.model.quantity import Quantity, parse, whole

CONTAINER = "Container"
VM = "VM"
UNIKERNEL = "Unikernel"
TYPES = (CONTAINER, VM, UNIKERNEL)
FIRMWARES = ("", "BIOS", "UEFI")
MOST_USER_DATA = 64 * 1024
"""Characters: it travels in each config of the node."""
BARE = "None"
VIRTUALIZATIONS = (BARE, "PV", "HVM", "FML", "Legacy")

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
    interface_order: tuple[str, ...] = ()
    """Names of `interfaces`, and of devices that are network interfaces, in the order in which a
    virtual machine finds them; those that are not named come after. Empty: interfaces as they are
    listed, then the devices. A system may have an order of its own."""
    boot_order: str = ""
    """Of a virtual machine: `USB`: it looks for its system on USB devices first; `NoUSB`: never
    there. Empty: where no disk has one, if the node has no property `app.boot.order`."""
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
    yield from check_volumes(spec.volumes, container=spec.type not in (VM, UNIKERNEL))
    yield from check_interfaces(spec.interfaces)
    yield from check_devices(
        spec.devices,
        bare=app.virtualization == BARE,
        legacy=app.virtualization == "Legacy",
    )
    yield from check_interface_order(
        spec.interface_order, spec.interfaces, spec.devices, bare=app.virtualization == BARE
    )
    yield from check_boot_order(spec.boot_order, machine=spec.type == VM)
    yield from check_vnc(spec.vnc, machine=spec.type == VM)
    yield from validate_snapshots(spec.snapshots)


def warn(app: App, old: App | None) -> Iterator[str]:
    """What it means, or a change of it, that is no mistake. `old`: None when it is new."""
    if old is not None:
        yield from _warn_lowered(app.spec, old.spec)
    if app.spec.type != CONTAINER:
        return
    bare = app.virtualization == BARE
    if bare and old is not None and old.virtualization != BARE:
        yield (
            "spec.virtualization: nodes do not mount what a virtual machine wrote; the app's "
            "instances start again after a purge, which makes their data new"
        )


def _warn_lowered(now: AppSpec, before: AppSpec) -> Iterator[str]:
    has, had = now.resources, before.resources
    yield from warn_lowered("spec.resources.cpu", has.cpu, had.cpu, restarts=True)
    yield from warn_lowered("spec.resources.memory", has.memory, had.memory, restarts=True)
    yield from warn_lowered("spec.resources.disk", has.disk, had.disk, restarts=False)
    yield from warn_of_volumes(now.volumes, before.volumes)


def _check_type(app: App) -> Iterator[Problem]:
    """What an app of its type cannot have."""
    spec = app.spec
    container, machine = spec.type == CONTAINER, spec.type == VM
    if container and app.virtualization == "Legacy":
        why = "a container in a virtual machine starts with the node's own kernel, which is not old"
        yield invalid("spec.virtualization", spec.virtualization, why)
    if container and app.virtualization != BARE:
        yield from _check_memory_of_contained(spec.resources, spec.devices)
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


def _check_memory_of_contained(
    resources: AppResources, devices: tuple[AppDevice, ...]
) -> Iterator[Problem]:
    general = any(device.type not in ("Serial", TPM) for device in devices)
    least = least_contained_kib(devices=general)
    with suppress(ValueError):  # which is told elsewhere
        if parse(resources.memory) < least * 1024:
            why = (
                f"a container in a virtual machine{' with devices' if general else ''} needs "
                f"{least // 1024}Mi at least; one with virtualization {BARE} needs less"
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


COLUMNS = (
    NAME,
    Column("Type", lambda a, _: a.spec.type),
    Column("Image", lambda a, _: a.spec.image),
    Column("CPU", lambda a, _: str(a.spec.resources.cpu)),
    Column("Memory", lambda a, _: str(a.spec.resources.memory)),
    Column("Virtualization", lambda a, _: a.virtualization, priority=1),
    AGE,
)
