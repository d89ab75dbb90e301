"""The build: which step needs which, from a lock and this checkout to the root image.

Every step names its inputs, its own code among them; `cache` does the rest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgevirt import __version__
from edgevirt.image.cache import Cache, Done, Inputs, hash_files, key_of
from edgevirt.image.disks import grub
from edgevirt.image.packages import wheels
from edgevirt.image.packages.apt import find_mirrors
from edgevirt.image.packages.fetch import Pool
from edgevirt.image.packages.lock import Lock, Package, read_lock
from edgevirt.image.packages.unpack import unpack
from edgevirt.image.parts import base, bytecode, guest, hypervisor, kernel, root
from edgevirt.image.parts.compiler import compile_alone
from edgevirt.image.programs import Tools
from edgevirt.image.recipe import (
    FILES,
    GRUB,
    HYPERVISOR,
    KERNEL,
    LIBRARIES,
    ROOT,
    TOOLS,
    Arch,
    Settings,
    Variant,
    has_machines,
)

HERE: Final = Path(__file__).parent
PACKAGE: Final = HERE.parent
_CHECKOUT: Final = PACKAGE.parent.parent
_BUILD_ID: Final = 12
_OF_GUEST: Final = ("guest", "compiler", "drivers", "modules", "initrd")


@dataclass
class Build:
    """One build of one image.

    code     our package's directory; `requirements`: the text of its locked Python libraries.
    lock     of the image's packages, `tool_lock`: of the programs that make it.
    """

    settings: Settings
    code: Path
    requirements: str
    lock: Lock
    tool_lock: Lock
    cache: Cache
    _mirrors: Mapping[str, str] = field(default_factory=dict)
    _root: tuple[Done, str] | None = field(default=None, init=False)

    # -- what is fetched -------------------------------------------------------------------------

    def packages(self, packages: tuple[Package, ...]) -> list[Path]:
        pool = self.cache.directory / "packages"
        if not self._mirrors and any(not (pool / f"{p.sha256}.deb").exists() for p in packages):
            self._mirrors = find_mirrors()
        return Pool(pool, self._mirrors).fetch(packages)

    def _unpacked(self, name: str, packages: tuple[Package, ...]) -> Done:
        def make(out: Path) -> None:
            out.mkdir()
            unpack(self.packages(packages), out)

        return self.cache.step(
            name, {"packages": _hashes(packages), **code_of("packages/unpack")}, make
        )

    def tools(self) -> Tools:
        done = self._unpacked("tools", self.tool_lock.group(TOOLS))
        return Tools(done.path, self.settings.epoch)

    def libraries(self) -> Done:
        chosen = wheels.choose(self.requirements, LIBRARIES)

        def make(out: Path) -> None:
            tree = out.parent / "tree"
            wheels.fetch(chosen, self.settings.arch, tree)
            tree.rename(out)
            bytecode.compile_tree(out, "/", prefix=f"/{root.PLACE}")

        inputs: Inputs = {"wheels": chosen, "arch": self.settings.arch}
        return self.cache.step(
            "libraries", {**inputs, **code_of("packages/wheels", "parts/bytecode")}, make
        )

    # -- what the image is made of ---------------------------------------------------------------

    def base(self) -> Done:
        packages = self.lock.group(ROOT)
        inputs: Inputs = {
            "packages": _hashes(packages),
            **code_of("parts/base", "packages/unpack", "parts/bytecode"),
        }
        return self.cache.step(
            "base", inputs, lambda out: base.make_base(self.packages(packages), out)
        )

    def kernel(self) -> Done:
        packages = self.lock.group(KERNEL)
        inputs: Inputs = {
            "packages": _hashes(packages),
            **code_of("parts/kernel", "parts/modules", "packages/unpack"),
        }
        return self.cache.step(
            "kernel",
            inputs,
            lambda out: kernel.make_kernel(self.packages(packages), self.tools(), out),
        )

    def hypervisor(self) -> Done | None:
        """None: the kernel itself is it."""
        packages = self.lock.group(HYPERVISOR)
        if not packages:
            return None
        inputs: Inputs = {
            "packages": _hashes(packages),
            **code_of("parts/hypervisor", "packages/unpack"),
        }
        return self.cache.step(
            "hypervisor",
            inputs,
            lambda out: hypervisor.make_hypervisor(self.packages(packages), out),
        )

    def initrd(self) -> Done:
        made, tree = self.kernel(), self.base()
        busybox = next(p for p in ("usr/bin", "bin") if (tree.path / p / "busybox").exists())
        digest = self.digest() if self.settings.arch is Arch.AMD64 else None
        epoch = self.settings.epoch
        inputs: Inputs = {"kernel": made.key, "base": tree.key, "epoch": epoch}
        inputs |= {
            "init": hash_files(FILES / "init.sh"),
            "digest": digest.key if digest else "",
            **code_of("parts/kernel", "parts/modules", "parts/initrd"),
        }
        return self.cache.step(
            "initrd",
            inputs,
            lambda out: kernel.make_initrd(
                made.path,
                tree.path / busybox / "busybox",
                digest.path if digest else None,
                self.tools(),
                epoch,
                out,
            ),
        )

    def digest(self) -> Done:
        """The program that measures the root image."""
        source, packages = FILES / "digest.c", _read_guest_lock().group(guest.COMPILER)
        inputs: Inputs = {"packages": _hashes(packages), "source": hash_files(source)}
        inputs |= code_of("parts/compiler")
        return self.cache.step(
            "digest", inputs, lambda out: compile_alone(self._compiler(), source, out)
        )

    def _compiler(self) -> Tools:
        lock = _read_guest_lock()
        done = self._unpacked("compiler", lock.group(guest.COMPILER))
        return Tools(done.path, lock.epoch)

    def guest(self) -> Done:
        """What containers run in that are machines of their own: kernels, initrds, drivers."""
        lock = _read_guest_lock()
        packages, general = lock.group(guest.GUEST), lock.group(guest.GENERAL)
        whole = (*packages, *general, *lock.group(guest.COMPILER))
        inputs: Inputs = {"packages": _hashes(whole), "epoch": lock.epoch}
        inputs |= {"files": hash_files(guest.SOURCES)}
        inputs |= code_of(*(f"parts/{name}" for name in _OF_GUEST), "packages/unpack")

        def make(out: Path) -> None:
            found = self.packages(packages), self.packages(general)
            guest.make_guest(*found, self.tools(), self._compiler(), lock.epoch, out)

        return self.cache.step("guest", inputs, make)

    def grub(self) -> Done:
        packages = self._unpacked("grub-packages", self.lock.group(GRUB))
        inputs: Inputs = {
            "packages": packages.key,
            "arch": self.settings.arch,
            **code_of("disks/grub"),
        }
        inputs |= {"epoch": self.settings.epoch, "stage1": hash_files(FILES / "stage1.cfg")}
        return self.cache.step(
            "grub",
            inputs,
            lambda out: grub.make_grub(packages.path, self.tools(), self.settings.arch, out),
        )

    def root(self) -> tuple[Done, str]:
        """The root image, and the version by which it is known: one for all that is made of it,
        also when somebody changes a file meanwhile.
        """
        if self._root is None:
            self._root = self._make_root()
        return self._root

    def _make_root(self) -> tuple[Done, str]:
        basic = [self.base(), self.kernel(), self.initrd(), self.libraries()]
        xen = self.hypervisor()
        guest = self.guest() if has_machines(self.settings) else None
        parts = [*basic, *(part for part in (xen, guest) if part is not None)]
        inputs: Inputs = {
            "parts": [part.key for part in parts],
            "code": hash_files(*self.node_code()),
        }
        inputs |= {"files": hash_files(FILES), "settings": repr(self.settings)}
        inputs |= code_of("parts/root", "parts/base", "parts/bytecode", "parts/elf")
        version = self.settings.full_version(_short(inputs))

        def make(out: Path) -> None:
            tree = out.parent / "tree"
            more = (None if part is None else part.path for part in (xen, guest))
            found = root.Parts(*(part.path for part in basic), *more)
            root.make_root(found, self.code, self.settings, version, tree)
            root.squash(tree, self.tools(), self.settings.epoch, out)

        return self.cache.step("root", inputs, make), version

    def stage2(self) -> str:
        """GRUB's configuration in the root image."""
        return root.stage2(self.settings)

    def node_code(self) -> list[Path]:
        top = [path for path in self.code.iterdir() if path.name not in root.NOT_ON_A_NODE]
        return sorted(path for path in top if path.name != "__pycache__")

    def sha256(self, done: Done) -> str:
        """Of a large output, in hex: computed once."""

        def make(out: Path) -> None:
            with done.path.open("rb") as file:
                out.write_text(hashlib.file_digest(file, "sha256").hexdigest())

        return self.cache.step("hash", {"of": done.key}, make).path.read_text()


def _hashes(packages: tuple[Package, ...]) -> list[str]:
    return [package.sha256 for package in packages]


def code_of(*modules: str) -> Inputs:
    """Inputs: of the builder, those files, as `room/file`."""
    names = {*modules, "programs", "recipe"}
    return {"builder": [hash_files(HERE / f"{name}.py") for name in sorted(names)]}


def _short(inputs: Inputs) -> str:
    return key_of(inputs)[:_BUILD_ID]


def open_build(
    variant: Variant,
    arch: Arch,
    cache: Path,
    users: tuple[tuple[str, int], ...],
    say: Callable[[str], None] = lambda text: None,
) -> Build:
    """A build of this checkout. `users`: of the node's services. Raises ImageError."""
    lock = read_lock(f"{variant}-{arch}")
    here = Arch.ARM64 if os.uname().machine == "aarch64" else Arch.AMD64
    return Build(
        settings=Settings(variant, arch, __version__, lock.epoch, users),
        code=PACKAGE,
        requirements=(_CHECKOUT / "requirements.lock").read_text(),
        lock=lock,
        tool_lock=read_lock(f"tools-{here}"),
        cache=Cache(cache.resolve(), say),
    )


def open_tools(cache: Path) -> Tools:
    """The programs of a build alone. Raises ImageError."""
    return open_build(Variant.KVM, Arch.AMD64, cache, ()).tools()


def _read_guest_lock() -> Lock:
    return read_lock(f"guest-{Arch.AMD64}")
