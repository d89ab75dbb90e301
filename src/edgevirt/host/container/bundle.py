"""A container's OCI bundle on disk: made from a domain, found again, taken down.

Everything here blocks; callers with an event loop use a thread.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from edgevirt.host import mounts
from edgevirt.host.container import oci, rootfs
from edgevirt.host.container.oci import Surroundings, VolumeMount
from edgevirt.host.container.user_data import UserData, parse_user_data
from edgevirt.host.devices.of_container import Given
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.host.processes import Process
from edgevirt.host.volumes.written import check_unwritten
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import Domain, DomainVolume
from edgevirt.model.ids import AppId

_MAX_FILES = 65_536


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What was made, for whoever comes after a restart."""

    name: str
    generation: int
    process: Process
    monitor: Process
    started: float = 0.0
    """Wall clock; 0: created only."""
    remark: str = ""


_RECORDS = msgspec.json.Decoder(Record)


class Bundle(msgspec.Struct, frozen=True):
    """`directory` exists from the first step to the last: what is half made is found again."""

    app: AppId
    directory: Path

    @property
    def container_pid(self) -> Path:
        return self.directory / "container.pid"

    @property
    def monitor_pid(self) -> Path:
        return self.directory / "conmon.pid"

    @property
    def monitor_errors(self) -> Path:
        return self.directory / "conmon.err"

    @property
    def exits(self) -> Path:
        return self.directory / "exits"

    @property
    def _root(self) -> Path:
        return self.directory / "rootfs"

    @property
    def _writable(self) -> Path:
        """Where file systems are mounted that hold what is written over layers."""
        return self.directory / "writable"

    @property
    def _record(self) -> Path:
        return self.directory / "record.json"

    def exists(self) -> bool:
        return self.directory.is_dir()

    def begin(self) -> None:
        """The directories alone."""
        for directory in (self.directory, self.exits):
            directory.mkdir(mode=0o700, parents=True)

    def build(
        self,
        domain: Domain,
        user_data: bytes,
        *,
        cgroup: str,
        limit_swap: bool,
        given: Callable[[], Given] = Given,
    ) -> str:
        """Mounts the volumes and writes `config.json`. `given`: makes what it gets of devices.
        A remark, if it does without something.

        Raises HypervisorError, UnfitError.

        After a failure the caller removes what there is.
        """
        wanted = parse_user_data(user_data)
        volumes, user, remark = self._fill(domain, wanted)
        around = Surroundings(
            root=str(self._root),
            user=user,
            cgroup=cgroup,
            limit_swap=limit_swap,
            max_files=min(_MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            resolv_conf=self.write("resolv.conf", oci.resolv_conf(domain.dns).encode()),
            hosts=self.write("hosts", oci.hosts_file(domain.hostname or domain.app).encode()),
            volumes=volumes,
            given=given(),
        )
        config = oci.runtime_config(domain, wanted.environment, around)
        self.write("config.json", msgspec.json.encode(config), mode=0o600)
        return remark

    def _fill(
        self, domain: Domain, wanted: UserData
    ) -> tuple[tuple[VolumeMount, ...], rootfs.User, str]:
        """All below its root: (where its further volumes are, who runs in it, a remark)."""
        if not domain.volumes or domain.volumes[0].format != ContentFormat.CONTAINER:
            raise UnfitError("cannot run: the first volume isn't a container image")
        for directory in (self.directory, self.exits, self._root):
            directory.mkdir(mode=0o700, parents=True)
        try:
            self._mount_overlay(0, domain.volumes[0], self._root)
            volumes = tuple(
                self._mount_volume(index, volume)
                for index, volume in enumerate(domain.volumes[1:], 1)
            )
            remark = mounts.fill(self.directory)
            for file in wanted.files:
                rootfs.write_file(self._root, file.path, file.content, file.mode)
            user = rootfs.resolve_user(self._root, domain.image.user)
        except (mounts.MountError, OSError) as failure:
            raise HypervisorError(str(failure)) from failure
        except rootfs.NoSuchUser as failure:
            raise UnfitError(f"cannot run as {domain.image.user!r}: {failure}") from failure
        return volumes, user, remark

    def remove(self) -> None:
        """Unmounts and removes all of it, and never anything that is mounted. Idempotent."""
        try:
            mounts.unmount_below(self.directory)
        except mounts.MountError as failure:
            raise HypervisorError(f"cannot remove {self.app}: {failure}") from failure
        below = (self.exits, self.directory / "volumes", self._writable, self._root)
        for directory in (*below, self.directory):
            _remove_shallow(directory)

    def read_record(self) -> Record | None:
        """None while it is not wholly made."""
        try:
            return _RECORDS.decode(self._record.read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def write_record(self, record: Record) -> None:
        self.write(self._record.name, msgspec.json.encode(record))

    def read_sizes(self) -> dict[str, int]:
        """Bytes of its disks, by their paths, that it was told of since it started."""
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self.directory / "sizes").read_bytes(), type=dict[str, int])
        return {}

    def write_sizes(self, sizes: dict[str, int]) -> None:
        self.write("sizes", msgspec.json.encode(sizes))

    def exit_code(self) -> int | None:
        """As conmon wrote it; None: it did not (yet)."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.exits / self.app).read_text())
        return None

    def _mount_volume(self, index: int, volume: DomainVolume) -> VolumeMount:
        target = oci.mount_target(volume.mount_dir, index)
        place = self.directory / "volumes" / str(index)
        place.mkdir(mode=0o700, parents=True)
        if volume.format == ContentFormat.CONTAINER and volume.readonly:
            mounts.overlay(place, [self._empty(), *map(Path, volume.layers)], None, None)
        elif volume.format == ContentFormat.CONTAINER:
            self._mount_overlay(index, volume, place)
        elif volume.format == ContentFormat.RAW:
            check_unwritten(volume.path)
            mounts.image(place, Path(volume.path), readonly=volume.readonly)
        else:
            kind = ContentFormat(volume.format).name
            raise UnfitError(f"cannot mount a volume of format {kind}: a container takes RAW ones")
        return VolumeMount(str(place), target, volume.readonly)

    def _mount_overlay(self, index: int, volume: DomainVolume, target: Path) -> None:
        top = Path(volume.path)
        if top.is_file():
            check_unwritten(volume.path)
            top = self._writable / str(index)
            top.mkdir(mode=0o700, parents=True)
            mounts.image(top, Path(volume.path), readonly=False)
        upper, work = top / "upper", top / "work"
        for directory in (upper, work):
            directory.mkdir(mode=0o700, exist_ok=True)
        _own_if_fresh(upper)
        layers = [Path(layer) for layer in volume.layers] or [self._empty()]
        mounts.overlay(target, layers, upper, work)

    def _empty(self) -> Path:
        empty = self.directory / "empty"
        empty.mkdir(mode=0o755, exist_ok=True)
        return empty

    def write(self, name: str, content: bytes, *, mode: int = 0o644) -> str:
        """Whole or not at all. Returns the path."""
        path = self.directory / name
        part = path.with_name(name + ".part")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            file.write(content)
        part.replace(path)
        return str(path)


def _own_if_fresh(upper: Path) -> None:
    """The container's `/` is this very directory: root's, and open to the app's user."""
    if not any(upper.iterdir()):
        os.chown(upper, 0, 0)
        upper.chmod(0o755)


def _remove_shallow(directory: Path) -> None:
    """Files and empty directories in it, then itself. Does not descend: below may be volumes."""
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            with suppress(OSError):
                entry.rmdir()
        else:
            entry.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        directory.rmdir()
