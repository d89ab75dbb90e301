"""How a container under trial is started in a virtual machine; that it runs is tried for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevirt.host.kvm.guest import GuestFiles, make_insides
from edgevirt.image.eci.contained import contained_command, run_contained
from edgevirt.image.eci.parts import ContainerParts
from edgevirt.image.eci.run import CannotRun, Wish, domain_of
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import DomainVolume
from edgevirt.model.eci import ContentFormat, Declared, Wants

PARTS = ContainerParts(Declared(wants=Wants(memory=256 << 20)), ImageConfig(cmd=("/x",)), ())
VOLUME = DomainVolume(
    path="/s/kept", format=ContentFormat.CONTAINER, layers=("/s/a",), packed="/s/p"
)


@pytest.fixture
def files(tmp_path: Path) -> GuestFiles:
    for name in ("vmlinux", "initrd.img"):
        (tmp_path / name).touch()
    return GuestFiles.below(tmp_path)


def command(files: GuestFiles, **wish: Any) -> str:
    wanted = Wish(**wish)
    insides = make_insides(domain_of(PARTS, wanted, VOLUME), b"", files)
    return " ".join(contained_command(insides, wanted, Path("/s"), "tcg"))


def test_it_reaches_nothing_and_is_reached_by_the_loopback_alone(files: GuestFiles) -> None:
    said = command(files, forwards={8080: 80})
    assert "restrict=on,hostfwd=tcp:127.0.0.1:8080-:80" in said


def test_what_its_guest_may_not_change_is_read_only(files: GuestFiles) -> None:
    said = command(files)
    for path, access in (("p", "on"), ("kept", "off"), ("given", "on"), ("end", "off")):
        assert f"file=/s/{path},format=raw,readonly={access}" in said


def test_memory_is_what_somebody_says_or_else_what_the_image_wants(files: GuestFiles) -> None:
    assert "-m size=262144k" in command(files)
    assert "-m size=131072k" in command(files, memory=128 << 20)


def test_without_its_kernel_it_says_how_to_get_it_or_to_do_without(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"`edgevirt image guest`; with --virtualization None"):
        run_contained(PARTS, Wish(), tmp_path, "tcg", GuestFiles.below(tmp_path))


def test_it_has_no_hardware_of_twenty_years_ago(files: GuestFiles, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="legacy"):
        run_contained(PARTS, Wish(virtualization="Legacy"), tmp_path, "tcg", files)
