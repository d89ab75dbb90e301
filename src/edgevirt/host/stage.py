"""The file system that a host-mode node sees: this machine's, read-only, and its own three trees.

Made in a new mount namespace by the first process of a node. Everything here is gone with it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC = 0x1000, 0x4000

HOME: Final = Path("/run/edgevirt")
"""Where the node's trees are, short enough for the address of a socket."""
TPM: Final = "tpm"
"""In HOME: the socket of a TPM, where the node has one."""
_EMPTIED: Final = (Path("/run"), Path("/tmp"))  # noqa: S108 - this one is the node's own
_RUN_SIZE: Final = "256m"

_libc = ctypes.CDLL(None, use_errno=True)


def set_stage(persist: Path, programs: Sequence[Path], tpm: Path | None = None) -> None:
    """Empties /run and /tmp, binds `persist` to HOME/persist (and `tpm` to HOME/tpm), and makes
    the rest read-only.

    `programs` stay where they are, and become reachable for every user: an interpreter may live
    in somebody's home.
    """
    with ExitStack() as opened:
        kept = {path: _open(path, opened) for path in [persist, *programs]}
        if tpm is not None:
            kept[tpm] = os.open(tpm, os.O_PATH | os.O_CLOEXEC)
            opened.callback(os.close, kept[tpm])
        hidden = [path for path in programs if not _reachable(path)]
        for directory in _EMPTIED:
            mode = "1777" if directory.name == "tmp" else "0755"
            mount("tmpfs", directory, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode={mode},size=64m")
        for name in ("config", "run", "persist", "etc"):
            (HOME / name).mkdir(parents=True)
        mount("tmpfs", HOME / "run", "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=711,size={_RUN_SIZE}")
        bind(Path(f"/proc/self/fd/{kept[persist]}"), HOME / "persist")
        # what images bring is data: no service gets a device or another user out of it
        flags = _MS_BIND | _MS_REMOUNT | _MS_NOSUID | _MS_NODEV
        mount(None, HOME / "persist", None, flags, None)
        if tpm is not None:
            (HOME / TPM).touch()
            bind(Path(f"/proc/self/fd/{kept[tpm]}"), HOME / TPM)
        for path in hidden:
            _expose(path, kept[path])
    mount(None, Path("/"), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, None)


def running_programs() -> tuple[Path, ...]:
    """The interpreter's own directories and those that it imports from."""
    paths = [sys.base_prefix, sys.prefix, *filter(None, sys.path)]
    return tuple(dict.fromkeys(path for path in map(Path, paths) if path.is_dir()))


def name_hosts(hosts: Mapping[str, str], servers: Iterable[str]) -> None:
    """`hosts`: name → address, besides this machine's. `servers`: of the DNS."""
    lines = [Path("/etc/hosts").read_text()] if Path("/etc/hosts").exists() else []
    lines += [f"{address} {name}\n" for name, address in hosts.items()]
    _replace(Path("/etc/hosts"), "".join(lines))
    _replace(Path("/etc/resolv.conf"), "".join(f"nameserver {server}\n" for server in servers))


def mount(source: str | None, target: Path, kind: str | None, flags: int, data: str | None) -> None:
    """mount(2). Raises OSError."""
    arguments = (
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else os.fsencode(kind),
        ctypes.c_ulong(flags),
        None if data is None else os.fsencode(data),
    )
    if _libc.mount(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot mount on {target}: {os.strerror(code)}")


def bind(source: Path, target: Path) -> None:
    mount(str(source), target, None, _MS_BIND | _MS_REC, None)


def _replace(path: Path, content: str) -> None:
    """Puts a file in the place of another, which has to be there."""
    if not path.exists():
        return
    ours = HOME / "etc" / path.name
    ours.write_text(content)
    ours.chmod(0o644)
    bind(ours, path)


def _open(path: Path, opened: ExitStack) -> int:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    return fd


def _reachable(path: Path) -> bool:
    """Every user may go there, and it isn't in what is about to be emptied."""
    resolved = path.resolve()
    if any(resolved.is_relative_to(directory) for directory in _EMPTIED):
        return False
    return all(_open_to_all(part) for part in [resolved, *resolved.parents])


def _open_to_all(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)


def _expose(path: Path, fd: int) -> None:
    """Covers the directory that is closed with an empty one, and puts only `path` into it."""
    closed = [part for part in reversed(path.parents) if part.exists() and not _open_to_all(part)]
    if closed:
        mount("tmpfs", closed[0], "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    path.mkdir(parents=True, exist_ok=True)
    bind(Path(f"/proc/self/fd/{fd}"), path)
