"""The same inputs make the same bytes, wherever; another source file makes another root alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgevirt.image.build import Build, open_build
from edgevirt.image.cache import Cache, Done
from edgevirt.image.recipe import Arch, Variant
from edgevirt.image.release import media

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CACHE = Path(os.environ.get("EDGEVIRT_IMAGE_CACHE", "build/image/cache"))
USERS = (("agent", 64001),)


@dataclass(frozen=True)
class Elsewhere:
    """A build of the same inputs in other directories, with a cache of its own.

    `made`: the steps that ran.
    """

    build: Build
    made: list[str]


@pytest.fixture(scope="module")
def here() -> Build:
    return open_build(Variant.KVM, Arch.AMD64, CACHE, USERS)


@pytest.fixture(scope="module")
def elsewhere(here: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """What was fetched is shared: it is known by its hash."""
    folder = tmp_path_factory.mktemp("another-place")
    here.root()
    (folder / "cache").mkdir()
    for name in ("packages", "libraries"):
        (folder / "cache" / name).symlink_to((CACHE / name).resolve())
    code = folder / "checkout/edgevirt"
    shutil.copytree(here.code, code, ignore=shutil.ignore_patterns("__pycache__"))
    made: list[str] = []
    cache = Cache(folder / "cache", lambda text: made.append(text.partition(":")[0]))
    yield Elsewhere(replace(here, code=code, cache=cache), made)
    shutil.rmtree(folder)


def sums(build: Build) -> dict[str, str]:
    outputs: dict[str, Done] = {
        "initrd": build.initrd(),
        "root": build.root()[0],
        "live": media.live(build),
        "installer": media.installer(build),
        "installer-iso": media.installer_iso(build),
    }
    found = {name: build.sha256(done) for name, done in outputs.items()}
    for path in sorted(build.grub().path.iterdir()):
        found[path.name] = path.read_bytes().hex()[: 1 << 20]
    return found


def test_the_same_inputs_make_the_same_bytes_elsewhere(here: Build, elsewhere: Elsewhere) -> None:
    assert sums(elsewhere.build) == sums(here)
    assert {"tools", "base", "kernel", "initrd", "grub", "root", "live"} <= set(elsewhere.made)
    assert elsewhere.build.root()[1] == here.root()[1]


def test_a_changed_source_file_makes_a_new_root_and_nothing_before_it(elsewhere: Elsewhere) -> None:
    build, before = elsewhere.build, elsewhere.build.root()
    elsewhere.made.clear()
    with (build.code / "node/init.py").open("a") as file:
        file.write("# changed\n")
    after = replace(build).root()
    assert after[1] != before[1]
    assert build.sha256(after[0]) != build.sha256(before[0])
    assert elsewhere.made == ["root", "hash"]
