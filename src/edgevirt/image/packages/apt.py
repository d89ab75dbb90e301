"""Asks apt, in directories of our own: which packages a wish means, and where they come from.

Nothing is installed and nothing of this machine's apt is changed; its mirror is taken, unless
EDGEVIRT_MIRROR (`debian=URL debian-security=URL`) names others.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.image.errors import ImageError
from edgevirt.image.packages.lock import Lock, Package, format_lock
from edgevirt.image.recipe import Group

MIRROR_VARIABLE: Final = "EDGEVIRT_MIRROR"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_URI: Final = re.compile(r"^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})$", re.MULTILINE)


class AptError(ImageError):
    """«cannot X: why»."""


def find_mirrors() -> Mapping[str, str]:
    """By archive, where this machine gets it: `debian`, `debian-security`. Raises AptError."""
    named = os.environ.get(MIRROR_VARIABLE, "")
    if named:
        return {name: url.rstrip("/") for name, _, url in (p.partition("=") for p in named.split())}
    shown = _run("apt-get", "indextargets", "--format", "$(ORIGIN) $(RELEASE) $(REPO_URI)")
    found: dict[str, str] = {}
    for line in shown.splitlines():
        origin, release, uri = [*line.split(" "), "", ""][:3]
        if origin == "Debian" and uri:
            archive = "debian-security" if release.endswith("-security") else "debian"
            found.setdefault(archive, uri.rstrip("/"))
    if "debian" not in found:
        raise AptError(
            "cannot find a Debian mirror: this machine's apt names none; run `apt-get update`, or"
            f" set {MIRROR_VARIABLE}='debian=URL debian-security=URL'"
        )
    found.setdefault("debian-security", re.sub(r"debian$", "debian-security", found["debian"]))
    return found


@dataclass(frozen=True)
class Resolver:
    """`directory`: where lists are kept while it is used."""

    directory: Path
    mirrors: Mapping[str, str]

    def resolve(self, group: Group, arch: str) -> tuple[Package, ...]:
        """The group's packages and all that they need, less what the group leaves out."""
        options = self._options(group, arch)
        _run("apt-get", "-q", *options, "update")
        wanted = ("--print-uris", "install", *group.packages)
        shown = _run("apt-get", "-q", "-y", *options, *wanted)
        left_out = re.compile("|".join(f"(?:{p})" for p in group.without) or r"(?!)")
        packages = [self._package(group.name, found) for found in _URI.findall(shown)]
        return tuple(p for p in packages if not left_out.fullmatch(p.name))

    def _package(self, group: str, found: tuple[str, str, str, str]) -> Package:
        uri, file, size, sha256 = found
        archive, path = self._place(uri)
        name, version, arch = urllib.parse.unquote(file.removesuffix(".deb")).rsplit("_", 2)
        return Package(group, name, version, arch, archive, int(size), sha256, path)

    def _place(self, uri: str) -> tuple[str, str]:
        for archive, base in sorted(self.mirrors.items(), key=lambda item: -len(item[1])):
            if uri.startswith(f"{base}/"):
                return archive, urllib.parse.unquote(uri.removeprefix(f"{base}/"))
        raise AptError("cannot lock a package that is in no known archive")

    def _options(self, group: Group, arch: str) -> list[str]:
        home = self.directory / f"{'-'.join(group.suites)}-{arch}"
        for name in ("lists/partial", "cache/archives/partial"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        lines = []
        for suite in group.suites:
            base = self.mirrors["debian-security" if suite.endswith("-security") else "debian"]
            lines.append(f"deb [arch={arch} signed-by={_KEYRING}] {base} {suite} main\n")
        (home / "sources.list").write_text("".join(lines))
        settings = {
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "sha256",
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def write_lock(path: Path, groups: Iterable[Group], arch: str) -> int:
    """Locks the newest packages in the file `path`. Returns how many. Raises AptError."""
    with tempfile.TemporaryDirectory() as scratch:
        resolver = Resolver(Path(scratch), find_mirrors())
        packages = tuple(p for group in groups for p in resolver.resolve(group, arch))
    path.parent.mkdir(exist_ok=True)
    path.write_text(format_lock(Lock(int(time.time()), packages)))
    return len(packages)


def _run(*command: str) -> str:
    """Raises AptError with the last line that apt said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise AptError(f"cannot ask apt: there is no program {command[0]}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise AptError(f"cannot ask apt: {said[-1] if said else done.returncode}")
    return done.stdout
