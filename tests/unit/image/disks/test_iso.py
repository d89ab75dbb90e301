"""The image of a CD: others read it, firmware finds what it starts, and it is a disk as well."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from pycdlib import PyCdlib
from pycdlib.eltorito import EltoritoBootCatalog

from edgevirt.host.disk.table import read_table
from edgevirt.image.disks import iso
from edgevirt.image.disks.configure import ConfigureError, configure, enlarge
from edgevirt.image.disks.grub import BOOT_SECTOR, CD_HEAD, CORE, HYBRID_SECTOR, cd_program
from edgevirt.image.disks.iso9660 import BIOS, BLOCK, EFI, HEAD, Start, format_head, places_of
from edgevirt.image.disks.raw import Filling
from edgevirt.image.programs import Tools, run
from edgevirt.model.disk import DISK_GUID, MIB, SECTOR, Label

EPOCH = 1_700_000_000
FILES = {"README.TXT": b"for people", "BOOT.IMG": bytes(range(256)) * 20}
BLOCKS = 600


def make_volume(epoch: int = EPOCH) -> bytes:
    starts = (Start(BIOS, places_of(FILES)["BOOT.IMG"], 4), Start(EFI, 512))
    head = format_head("NAME", BLOCKS, FILES, starts, epoch)
    return (bytes(HEAD * BLOCK) + head).ljust(BLOCKS * BLOCK, b"\0")


@pytest.fixture
def volume() -> PyCdlib:
    made = PyCdlib()
    made.open_fp(io.BytesIO(make_volume()))
    return made


def catalog_of(volume: PyCdlib) -> EltoritoBootCatalog:
    assert volume.eltorito_boot_catalog is not None
    return volume.eltorito_boot_catalog


def test_another_program_reads_its_files(volume: PyCdlib) -> None:
    for name, content in FILES.items():
        found = io.BytesIO()
        volume.get_file_from_iso_fp(found, iso_path=f"/{name};1")
        assert found.getvalue() == content


def test_either_firmware_finds_what_it_starts(volume: PyCdlib) -> None:
    catalog = catalog_of(volume)
    assert catalog.initial_entry.get_rba() == places_of(FILES)["BOOT.IMG"]
    assert catalog.initial_entry.sector_count == 4
    [section] = catalog.sections
    assert section.platform_id == EFI
    assert [entry.get_rba() for entry in section.section_entries] == [512]


def test_all_that_is_in_it_has_the_time_that_was_told() -> None:
    assert make_volume() == make_volume()
    assert b"20231114221320" in make_volume()


def test_a_machine_without_legacy_bios_has_one_entry() -> None:
    head = format_head("NAME", BLOCKS, {}, (Start(EFI, 512),), EPOCH)
    made = PyCdlib()
    made.open_fp(io.BytesIO((bytes(HEAD * BLOCK) + head).ljust(BLOCKS * BLOCK, b"\0")))
    assert catalog_of(made).validation_entry.platform_id == EFI
    assert catalog_of(made).sections == []


def grub_in(folder: Path) -> Path:
    """Its pieces for legacy BIOS, marked."""
    folder.mkdir()
    (folder / BOOT_SECTOR).write_bytes(b"boot".ljust(SECTOR, b"!"))
    (folder / CORE).write_bytes(bytes(SECTOR) + b"core".ljust(3 * SECTOR, b"!"))
    (folder / CD_HEAD).write_bytes(bytes(BLOCK))
    (folder / HYBRID_SECTOR).write_bytes(bytes(SECTOR))
    return folder


def test_grub_finds_its_core_on_a_cd_and_on_a_stick_with_its_image(tmp_path: Path) -> None:
    start, sector = cd_program(grub_in(tmp_path / "grub"), 24, BLOCK, HEAD)
    at = 24 * BLOCK // SECTOR + BLOCK // SECTOR
    assert struct.unpack_from("<III", start, 8) == (HEAD, 24, BLOCK + 4 * SECTOR)
    assert struct.unpack_from("<QH", start, BLOCK + 500) == (at + 1, 3)
    assert struct.unpack_from("<Q", sector, 432) == (at,)


def test_partitions_lie_behind_the_volume_s_head_and_keep_their_alignment() -> None:
    labels = (Label.BIOS, Label.ESP, Label.INSTALLER, Label.CONFIG)
    places = iso.place_all({label: Filling(size=0) for label in labels})
    assert [place.row.label for place in places] == [*labels[1:], Label.BIOS]
    assert all(place.start % BLOCK == 0 and place.start >= MIB for place in places)


class OfThisMachine(Tools):
    """Programs of a build that this machine has as well."""

    def run(self, program: str, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        return run(program, *arguments, stdin=stdin, MTOOLS_SKIP_CHECK="1")


TOOLS = OfThisMachine(Path("/"), EPOCH)


def make_cd(tmp_path: Path) -> Path:
    (tmp_path / "root").write_bytes(b"hsqs" * 1000)
    fillings = {
        Label.BIOS: Filling(),
        Label.ESP: Filling(files={"EFI/BOOT/grubenv": b"states"}),
        Label.INSTALLER: Filling(image=tmp_path / "root", size=MIB),
        Label.CONFIG: Filling(),
    }
    boot, made = grub_in(tmp_path / "grub"), tmp_path / "made.iso"
    iso.make_iso(fillings, TOOLS, made, boot, DISK_GUID, FILES)
    return made


def test_what_a_node_is_told_is_put_into_the_image_of_its_cd(tmp_path: Path) -> None:
    made = make_cd(tmp_path)
    before = made.stat().st_size
    (tmp_path / "config").mkdir()
    (tmp_path / "config/server").write_text("fleet.example:8443\n")
    configure(made, tmp_path / "config", TOOLS)
    place = read_table(made).get(Label.CONFIG)
    told = run("mtype", "-i", f"{made}@@{place.start}", "::/server")
    assert told == b"fleet.example:8443\n"
    assert made.stat().st_size == before
    volume = PyCdlib()
    volume.open(str(made))
    volume.close()


def test_an_installer_finds_what_starts_a_disk_behind_grub_s_core(tmp_path: Path) -> None:
    made = make_cd(tmp_path)
    place = read_table(made).get(Label.BIOS)
    content = made.read_bytes()
    assert content[place.start + SECTOR :].startswith(b"core")
    assert content[place.start + place.size - SECTOR :].startswith(b"boot")
    assert not content.startswith(b"boot"), "it starts a disk, not this medium"


def test_a_cd_is_not_made_larger(tmp_path: Path) -> None:
    (tmp_path / "cd.iso").write_bytes(make_volume())
    with pytest.raises(ConfigureError, match="image of a CD"):
        enlarge(tmp_path / "cd.iso", 8 << 30)
