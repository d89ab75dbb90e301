"""The root image: base tree, kernel, libraries and our code, as one squashfs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.image.parts.base import write_users
from edgevirt.image.parts.bytecode import compile_tree
from edgevirt.image.parts.elf import find_missing
from edgevirt.image.parts.hypervisor import IMAGE
from edgevirt.image.programs import ProgramError, Tools
from edgevirt.image.recipe import FILES, Settings, Variant

PLACE: Final = "usr/lib/edgevirt/site-packages"
GUEST_PLACE: Final = "usr/share/edgevirt/guest"
NOT_ON_A_NODE: Final = ("fleet", "cli", "programs", "image", "client", "__main__.py", "proto")
"""Of our package: it has no operators, and builds nothing."""
_CONSOLES: Final = {
    "amd64": "console=tty0 console=ttyS0,115200",
    "arm64": "console=tty0 console=ttyAMA0,115200",
}
_DOM0_MEMORY: Final = "dom0_mem=800M,max:800M"
_OVERRIDDEN: Final = 'if [ -n "$overrides" ]; then source "$overrides"; fi\n'
_XEN_ARGUMENTS: Final = (
    "console=com1,vga com1=115200,8n1 loglvl=warning"
    " $hv_dom0_mem_settings $hv_dom0_cpu_settings $hv_extra_args"
)
_LEVEL: Final = "4"
_PROCESSORS: Final = "2"


@dataclass(frozen=True)
class Parts:
    """Outputs of earlier steps; they stay as they are."""

    base: Path
    kernel: Path
    initrd: Path
    libraries: Path
    hypervisor: Path | None = None
    guest: Path | None = None


def make_root(parts: Parts, code: Path, settings: Settings, version: str, tree: Path) -> None:
    """`code`: our package's directory; `tree`: to be made. Files are shared with the parts.

    Raises ProgramError, also when a program would not find its libraries.
    """
    _link_tree(parts.base, tree)
    _link_tree(parts.kernel, tree)
    _link_tree(parts.libraries, tree / PLACE)
    if parts.hypervisor is not None:
        _link_tree(parts.hypervisor, tree)
    if parts.guest is not None:
        _link_tree(parts.guest, tree / GUEST_PLACE)
    os.link(parts.initrd, tree / "boot/initrd.img")
    _copy_code(code, tree)
    _write_boot(tree, settings)
    write_users(tree, dict(settings.users))
    release = {"version": version, "variant": settings.variant, "arch": settings.arch}
    (tree / "etc/edgevirt-release").write_text(json.dumps(release) + "\n")
    if missing := find_missing(tree):
        raise ProgramError(f"cannot make the root image: {'; '.join(missing[:5])}: not in it")


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    else:
        os.link(source, target)


def _copy_code(code: Path, tree: Path) -> None:
    package = tree / PLACE / "edgevirt"
    shutil.copytree(code, package, ignore=_ignored(code), copy_function=shutil.copyfile)
    for path in (package, *package.rglob("*")):
        runs = path.is_dir() or path.suffix == ".sh"
        path.chmod(0o755 if runs else 0o644)
    services = tree / "containers/services"
    for folder in sorted((package / "node").iterdir()):
        if folder.is_dir():
            shutil.move(folder, services / folder.name)
            folder.symlink_to(f"/containers/services/{folder.name}")
    for part in (package, services):
        compile_tree(tree, f"/{part.relative_to(tree)}")


def _ignored(code: Path) -> Callable[[str, list[str]], set[str]]:
    def ignored(directory: str, names: list[str]) -> set[str]:
        found = {n for n in names if n == "__pycache__" or n.startswith(".") or n.endswith(".pyi")}
        if Path(directory) in (code, code / "wire"):
            found.update(name for name in names if name in NOT_ON_A_NODE)
        return found

    return ignored


def _write_boot(tree: Path, settings: Settings) -> None:
    init = tree / "usr/sbin/init"
    shutil.copyfile(FILES / "init.py", init)
    init.chmod(0o755)
    (tree / "usr/lib/python3/dist-packages").mkdir(parents=True, exist_ok=True)
    (tree / "usr/lib/python3/dist-packages/edgevirt.pth").write_text(f"/{PLACE}\n")
    target = tree / "EFI/BOOT/grub.cfg"
    target.parent.mkdir(parents=True)
    target.write_text(stage2(settings))


def stage2(settings: Settings) -> str:
    """GRUB's second stage, which the root image brings along."""
    text = (FILES / "stage2.cfg").read_text()
    if settings.variant is Variant.XEN:
        text = _under_xen(text)
    return text.replace("@CONSOLE@", _CONSOLES[settings.arch])


def _under_xen(text: str) -> str:
    """The kernel and its initial file system become modules of the hypervisor, which is started
    with what the settings say of the first domain."""
    for old, new in (
        ('hv_dom0_mem_settings="800M"', f'hv_dom0_mem_settings="{_DOM0_MEMORY}"'),
        ("@CONSOLE@", "console=tty0 console=hvc0"),
        ('dom0_extra_args=""\n', 'dom0_extra_args=""\nset hv_extra_args=""\n'),
        (_OVERRIDDEN, (FILES / "overridden-xen.cfg").read_text()),
        ("linux /boot/vmlinuz", f"multiboot2 /{IMAGE} {_XEN_ARGUMENTS}\nmodule2 /boot/vmlinuz"),
        ("initrd /boot/initrd.img", "module2 /boot/initrd.img"),
    ):
        if old not in text:
            raise ProgramError(f"cannot make stage 2 for Xen: it has no {old!r} any more")
        text = text.replace(old, new)
    return text


def squash(tree: Path, tools: Tools, epoch: int, out: Path) -> None:
    """The same tree makes the same bytes. gzip: of what the kernel is fast at, GRUB reads this.

    No fragments: a service's start reads hundreds of small files all over the tree, and would
    unpack 128 KiB for each of them; it costs 2 % in size.
    """
    tools.run(
        *("mksquashfs", tree, out, "-noappend", "-no-progress", "-quiet", "-all-root"),
        *("-no-xattrs", "-no-exports", "-no-hardlinks", "-no-fragments", "-comp", "gzip"),
        *("-Xcompression-level", _LEVEL, "-processors", _PROCESSORS, "-b", "131072"),
        *("-mkfs-time", str(epoch), "-all-time", str(epoch)),
    )
