"""Gives a build out: artifacts to copy and change, and what is to be known of them beside.

`manifest.json` names every artifact with its size and hash, and what a TPM holds after a boot.
`sbom.spdx.json` lists what is in the image, `provenance.json` what it was made from and with.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.image.build import Build
from edgevirt.image.cache import hash_files
from edgevirt.image.disks.grub import EFI
from edgevirt.image.packages.wheels import pins
from edgevirt.image.parts.hypervisor import IMAGE
from edgevirt.image.programs import run
from edgevirt.image.release import media
from edgevirt.image.release.measure import Booted, expect
from edgevirt.image.release.sbom import describe

_CHUNK: Final = 1 << 20
_QCOW2_SIZE: Final = "8G"
"""Of the disk that a guest sees; its file is as small as the raw one."""


@dataclass(frozen=True)
class Artifact:
    name: str
    kind: str
    size: int
    sha256: str


def release(build: Build, folder: Path) -> str:
    """Returns the version. Raises ImageError."""
    image, version = build.root()
    outputs = {
        "root.squashfs": ("root", image),
        "live.raw": ("live", media.live(build)),
        "installer.raw": ("installer", media.installer(build)),
        "installer.iso": ("installer-iso", media.installer_iso(build)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = []
    for name, (kind, done) in outputs.items():
        publish(done.path, folder / name)
        artifacts.append(Artifact(name, kind, done.path.stat().st_size, build.sha256(done)))
    _write(folder / "sbom.spdx.json", _sbom(build, version))
    _write(folder / "provenance.json", _provenance(build, artifacts))
    _write(folder / "manifest.json", _manifest(build, version, artifacts))
    return version


def write_qcow2(folder: Path) -> None:
    """`live.qcow2` of `live.raw`, with room for what the first boot makes. Raises ImageError."""
    fresh = folder / ".live.qcow2.new"
    run("qemu-img", "convert", "-O", "qcow2", folder / "live.raw", fresh)
    run("qemu-img", "resize", "-q", fresh, _QCOW2_SIZE)
    fresh.replace(folder / "live.qcow2")


def publish(source: Path, target: Path) -> None:
    """A copy of an output; zeros take no room."""
    fresh = target.with_name(f".{target.name}.new")
    run("cp", "--sparse=always", "--reflink=auto", source, fresh)
    fresh.replace(target)


def _write(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _manifest(build: Build, version: str, artifacts: list[Artifact]) -> dict[str, object]:
    return {
        "version": version,
        "variant": build.settings.variant,
        "arch": build.settings.arch,
        "artifacts": [vars(artifact) for artifact in artifacts],
        "measurements": expect(_booted(build, artifacts)),
    }


def _booted(build: Build, artifacts: list[Artifact]) -> Booted:
    loader = build.grub().path / EFI[build.settings.arch].file
    return Booted(
        loader=loader.read_bytes(),
        stage2=build.stage2().encode(),
        kernel=(build.kernel().path / "boot/vmlinuz").read_bytes(),
        initrd=build.initrd().path.read_bytes(),
        hypervisor=(xen.path / IMAGE).read_bytes() if (xen := build.hypervisor()) else b"",
        root=next(artifact.sha256 for artifact in artifacts if artifact.kind == "root"),
    )


def _sbom(build: Build, version: str) -> dict[str, object]:
    return describe(version, build.settings.epoch, build.lock.packages, pins(build.requirements))


def _provenance(build: Build, artifacts: list[Artifact]) -> dict[str, object]:
    """In the form of an in-toto statement with SLSA's predicate."""
    packages = (*build.lock.packages, *build.tool_lock.packages)
    materials = [
        {
            "uri": f"pkg:deb/debian/{p.name}@{p.version}?arch={p.arch}",
            "digest": {"sha256": p.sha256},
        }
        for p in packages
    ]
    materials.append(
        {"uri": "edgevirt:source", "digest": {"sha256": hash_files(*build.node_code())}}
    )
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": a.name, "digest": {"sha256": a.sha256}} for a in artifacts],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "edgevirt-image",
                "externalParameters": {
                    "variant": build.settings.variant,
                    "arch": build.settings.arch,
                },
                "internalParameters": {"python": platform.python_version()},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": f"edgevirt-{build.settings.version}"}},
        },
    }
