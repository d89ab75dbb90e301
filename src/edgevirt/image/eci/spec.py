"""What an Edge Container Image is to be made of: a small YAML, a directory, or a disk file.

Every path in it is relative to the file that it stands in. What is wrong is told by the field's
path: `root.pieces[1].offset: must …`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgevirt.model.quantity import Quantity, whole
from edgevirt.wire import eci

NAMES = ("eci.yaml", "eci.yml")
MAX_SPEC = 1 << 20
"""Bytes."""
ARCHITECTURES = ("amd64", "arm64", "arm", "riscv64")
LEAST_CHUNK = 1 << 20

_SUFFIXES = {".img": "raw", ".raw": "raw", ".iso": "iso", ".vpc": "vhd"} | {
    f".{name}": name for name in eci.FORMATS
}


class SpecError(Exception):
    """«cannot read FILE: FIELD: why»."""


class _Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Piece(_Spec, frozen=True, kw_only=True):
    """A file at an offset of a raw disk."""

    file: str
    offset: Quantity = 0


class Disk(_Spec, frozen=True, kw_only=True):
    """`format`: by the file's suffix, if not given. `chunk`: a raw file is cut into layers of so
    many bytes, and those that are all zero are left out; 0: one layer. `pieces` instead of `file`:
    a raw disk made of files, zero between them and up to `size`.
    """

    file: str = ""
    format: str = ""
    chunk: Quantity = 0
    pieces: tuple[Piece, ...] = ()
    size: Quantity = 0


class Hardware(_Spec, frozen=True, kw_only=True):
    """What it needs to run. Declared in the image itself."""

    cpus: int = 0
    memory: Quantity = 0
    virtualization: str = ""
    devices: tuple[str, ...] = ()


class EciSpec(_Spec, frozen=True, kw_only=True):
    """Either `files` (a container) or `root` and/or `kernel` (a machine)."""

    architecture: str = ""
    """`amd64`, `arm64`, …; empty: this machine's."""
    root: Disk | None = None
    disks: tuple[Disk, ...] = ()
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    files: tuple[str, ...] = ()
    """Directories; each is a layer, lowest first."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    hardware: Hardware = Hardware()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Of the manifest, besides those that say the above."""


def load(path: Path) -> tuple[EciSpec, Path]:
    """(spec, the directory that its paths are relative to). Raises SpecError."""
    if path.is_dir():
        for name in NAMES:
            if (path / name).is_file():
                return _read(path / name), path
        return _of_directory(path), path
    if not path.exists():
        raise SpecError(f"cannot read {path}: there is no such file")
    if path.suffix in {".yaml", ".yml"}:
        return _read(path), path.parent
    if path.suffix not in _SUFFIXES:
        raise SpecError(f"cannot read {path}: neither YAML nor a disk, by its name")
    return EciSpec(root=Disk(file=path.name)), path.parent


def _read(path: Path) -> EciSpec:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SPEC + 1)
        if len(data) > MAX_SPEC:
            raise SpecError(f"cannot read {path}: it has more than {MAX_SPEC} bytes")
        body: Any = yaml.safe_load(data)
        spec = msgspec.convert(body, EciSpec)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise SpecError(f"cannot read {path}: {_place(str(error))}") from error
    for field, why in problems(spec):
        raise SpecError(f"cannot read {path}: {field}: {why}")
    return spec


def _place(text: str) -> str:
    """msgspec's «why - at `$.field`» as «field: why»."""
    why, _, place = text.partition(" - at `$")
    place = place.rstrip("`").lstrip(".").replace("[...]", "[]")
    return f"{place}: {why[:1].lower()}{why[1:]}" if place else f"{why[:1].lower()}{why[1:]}"


def _of_directory(directory: Path) -> EciSpec:
    """By the names that lf-edge/edge-containers gives files; without any: a container's files."""
    names = sorted(path.name for path in directory.iterdir())
    roots = [name for name in names if name.startswith(("disk-root-", "disk-root."))]
    disks = [name for name in names if name.startswith("disk-") and name not in roots]
    kernel = "kernel" if "kernel" in names else ""
    if not names:
        raise SpecError(f"cannot use {directory}: it is empty")
    if not roots and not kernel:
        return EciSpec(files=(".",))
    if len(roots) > 1:
        raise SpecError(f"cannot use {directory}: it has {len(roots)} root disks")
    return EciSpec(
        root=Disk(file=roots[0]) if roots else None,
        disks=tuple(Disk(file=name) for name in disks),
        kernel=kernel,
        initrd="initrd" if "initrd" in names else "",
    )


# -- what may be wrong ----------------------------------------------------------------------------


def problems(spec: EciSpec) -> Iterator[tuple[str, str]]:
    """(field, what it must be)."""
    machine = spec.root is not None or spec.kernel
    if machine and spec.files:
        yield "files", "must not be there beside a root disk or a kernel: it is one or the other"
    if not machine and not spec.files:
        yield "root", "must be there, or kernel, or files: else there is nothing to run"
    if not machine and spec.disks:
        yield "disks", "must not be there without a root disk or a kernel"
    if spec.architecture and spec.architecture not in ARCHITECTURES:
        yield "architecture", f"must be one of {', '.join(ARCHITECTURES)}"
    yield from _kernel_problems(spec)
    if spec.root is not None:
        yield from _disk_problems("root", spec.root)
    for index, disk in enumerate(spec.disks):
        yield from _disk_problems(f"disks[{index}]", disk)
        if disk.pieces or disk.chunk:
            yield f"disks[{index}]", "must be one file: only the root disk is made of pieces"
    if len(spec.disks) > eci.MAX_DISKS:
        yield "disks", f"must be {eci.MAX_DISKS} at most"
    for index, name in enumerate(spec.env):
        if "=" not in name:
            yield f"env[{index}]", "must be NAME=value"
    yield from _hardware_problems(spec.hardware)
    for name in spec.annotations:
        if name.startswith(("org.lfedge.eci.", "io.edgevirt.eci.")):
            yield f"annotations.{name}", "must not be given: it is made from the other fields"


def _kernel_problems(spec: EciSpec) -> Iterator[tuple[str, str]]:
    if spec.initrd and not spec.kernel:
        yield "initrd", "must not be there without a kernel"
    if spec.cmdline and not spec.kernel:
        yield "cmdline", "must not be there without a kernel"
    if len(spec.cmdline) > eci.MAX_CMDLINE or not spec.cmdline.isprintable():
        yield "cmdline", f"must be one line of {eci.MAX_CMDLINE} characters at most"


def _disk_problems(field: str, disk: Disk) -> Iterator[tuple[str, str]]:
    if bool(disk.file) == bool(disk.pieces):
        yield field, "must have either a file or pieces"
        return
    if disk.format and disk.format not in eci.FORMATS:
        yield f"{field}.format", f"must be one of {', '.join(eci.FORMATS)}"
        return
    if not disk.pieces and not disk.format and Path(disk.file).suffix not in _SUFFIXES:
        yield f"{field}.format", "must be there: the file's name doesn't tell"
        return
    numbers = [(f"{field}.chunk", disk.chunk), (f"{field}.size", disk.size)]
    numbers += [(f"{field}.pieces[{i}].offset", one.offset) for i, one in enumerate(disk.pieces)]
    for name, value in numbers:
        yield from _size_problems(name, value)
        if any(True for _ in _size_problems(name, value)):
            return
    raw = format_of(disk) == "raw"
    if (disk.pieces or disk.chunk) and not raw:
        yield f"{field}.format", "must be raw: other disks are not made of pieces"
    if disk.chunk and (disk.pieces or whole(disk.chunk) < LEAST_CHUNK):
        yield f"{field}.chunk", "must be 1Mi at least, and is for a file"
    if disk.size and not disk.pieces and not disk.chunk:
        yield f"{field}.size", "must not be there: a file has its own"
    offsets = [whole(piece.offset) for piece in disk.pieces]
    for index in range(1, len(offsets)):
        if offsets[index] <= offsets[index - 1]:
            yield f"{field}.pieces[{index}].offset", "must be beyond the piece before it"


def _size_problems(field: str, size: Quantity) -> Iterator[tuple[str, str]]:
    try:
        amount = whole(size)
    except ValueError as error:
        yield field, str(error)
        return
    if not 0 <= amount <= eci.MAX_DISK:
        yield field, f"must be 0 to {eci.MAX_DISK} bytes"


def _hardware_problems(hardware: Hardware) -> Iterator[tuple[str, str]]:
    if not 0 <= hardware.cpus <= 1024:
        yield "hardware.cpus", "must be 0 to 1024"
    yield from _size_problems("hardware.memory", hardware.memory)
    if hardware.virtualization and hardware.virtualization not in eci.VIRTUALIZATIONS:
        yield "hardware.virtualization", f"must be one of {', '.join(eci.VIRTUALIZATIONS)}"
    for index, device in enumerate(hardware.devices):
        if not eci.is_device(device):
            yield f"hardware.devices[{index}]", "must be KIND or KIND:NAME, such as usb:camera"


def format_of(disk: Disk) -> str:
    """Its name among the media types."""
    if disk.pieces:
        return disk.format or "raw"
    return disk.format or _SUFFIXES[Path(disk.file).suffix]
