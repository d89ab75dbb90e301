"""Which disk is installed on: never one that holds something, never by guessing."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import msgspec
import pytest

from edgevirt.model.disk import MIB, P3_LEAST, SECTOR, SECTORS, Label, partition
from edgevirt.model.gpt import Entry, usable
from edgevirt.model.installation import DiskFacts, Holds, Order, Plan
from edgevirt.node.installer.planner import (
    MARK,
    Refusal,
    choose,
    judge,
    lay_out,
    least_size,
    parse_order,
    soft_serial,
    told_files,
)

GIB = 1 << 30
MEDIUM = DiskFacts("sda", 8 * GIB, removable=True, used=True, holds=Holds.INSTALLER)
BLANK = DiskFacts("vda", 8 * GIB)
OTHER = DiskFacts("vdb", 8 * GIB)
FULL = DiskFacts("vda", 8 * GIB, holds=Holds.CONTENT, content="an ext4 file system")


def entry(label: str, kind: str, number: int = 1) -> Entry:
    return Entry(number, kind, str(uuid.uuid4()), 2048, 4095, label)


# -- what it is told --


def test_arguments_are_those_of_eve() -> None:
    order = parse_order(
        {
            "eve_install_disk": "/dev/nvme0n1",
            "eve_persist_disk": "sda",
            "eve_nuke_disks": "sda,/dev/sdb",
            "eve_reboot_after_install": "",
            "eve_nuke_all_disks": "0",
            "eve_soft_serial": "A1",
            "eve_install_server": "fleet.example:443",
            "console": "tty0",
        }
    )
    assert order == Order(
        disk="nvme0n1",
        persist="sda",
        erase=frozenset({"sda", "sdb"}),
        server="fleet.example:443",
        soft_serial="A1",
        restart=True,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"eve_install_zfs_with_raid_level": "1"},
        {"eve_install_skip_persist": ""},
        {"eve_persist_disk": "sda,sdb"},
    ],
)
def test_what_cannot_be_heeded_is_not_ignored(arguments: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="cannot install"):
        parse_order(arguments)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("eve_nuke_all_disks", "erase_all"),
        ("eve_reboot_after_install", "restart"),
        ("eve_pause_before_install", "pause_before"),
        ("eve_pause_after_install", "pause_after"),
        ("eve_blackbox", "record_only"),
    ],
)
def test_a_flag_stands_for_itself_or_has_a_value(name: str, field: str) -> None:
    changed: dict[str, Any] = {field: True}
    assert parse_order({}) == Order()
    for value in ("", "1", "true"):
        assert parse_order({name: value}) == msgspec.structs.replace(Order(), **changed)
    for value in ("0", "false", "No", "off"):
        assert parse_order({name: value}) == Order()


def test_the_installed_disk_gets_the_server_and_the_serial_that_were_told() -> None:
    order = parse_order({"eve_install_server": "fleet.example:443", "eve_soft_serial": "A1"})
    given = {"soft_serial": b"B2\n", "server": b"other.example:443\n"}
    assert soft_serial(order, given) == "A1"
    told = {"soft_serial": b"A1\n", "server": b"fleet.example:443\n"}
    assert told_files(order, "A1") == told


def test_without_being_told_it_keeps_what_was_given_or_makes_a_new_serial() -> None:
    assert soft_serial(Order(), {"soft_serial": b"B2\n"}) == "B2"
    assert told_files(Order(), "B2") == {"soft_serial": b"B2\n"}
    first, second = soft_serial(Order(), {}), soft_serial(Order(), {})
    assert first != second
    assert uuid.UUID(first)


# -- which disk --


def test_the_one_empty_disk_is_taken() -> None:
    assert choose(Order(), [MEDIUM, BLANK]) == Plan("vda", "vda")


def test_between_two_it_does_not_guess() -> None:
    with pytest.raises(Refusal, match="vda, vdb would do; say eve_install_disk"):
        choose(Order(), [MEDIUM, BLANK, OTHER])
    assert choose(Order(disk="vdb"), [MEDIUM, BLANK, OTHER]) == Plan("vdb", "vdb")


def test_an_empty_disk_is_taken_before_one_that_holds_something() -> None:
    assert choose(Order(), [FULL, OTHER]).disk == "vdb"


@pytest.mark.parametrize("order", [Order(), Order(disk="vda"), Order(erase=frozenset({"vdb"}))])
def test_a_disk_that_holds_something_is_refused_with_what_and_how_to_erase_it(order: Order) -> None:
    small = DiskFacts("vdb", 64 * MIB)
    expected = "/dev/vda: it holds an ext4 file system; say eve_nuke_disks=vda to erase it"
    with pytest.raises(Refusal, match=expected):
        choose(order, [MEDIUM, FULL, small])


def test_only_what_was_named_is_erased() -> None:
    other = DiskFacts("vdb", 8 * GIB, holds=Holds.NODE)
    third = DiskFacts("vdc", 8 * GIB, holds=Holds.NODE)
    order = Order(disk="vda", erase=frozenset({"vda", "vdc"}))
    assert choose(order, [MEDIUM, FULL, other, third]) == Plan("vda", "vda", ("vdc",))


def test_all_disks_are_those_that_are_built_in() -> None:
    stick = DiskFacts("sdb", 8 * GIB, removable=True, holds=Holds.CONTENT)
    other = DiskFacts("vdb", 8 * GIB, holds=Holds.NODE)
    plan = choose(Order(disk="vda", erase_all=True), [MEDIUM, FULL, stick, other])
    assert plan == Plan("vda", "vda", ("vdb",))


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (Order(disk="sda"), "own medium"),
        (Order(erase=frozenset({"sda"})), "own medium"),
        (Order(disk="sdz"), "no disk sdz; there is vda"),
        (Order(persist="sda"), "own medium"),
    ],
)
def test_the_medium_and_what_is_not_there_are_never_taken(order: Order, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        choose(order, [MEDIUM, BLANK])


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        (DiskFacts("vda", least_size() - MIB), "MiB; a node needs"),
        (DiskFacts("vda", 8 * GIB, sector=2048), "have 2048 bytes; a node's disk has 512 or 4096"),
        (DiskFacts("vda", 8 * GIB, read_only=True), "cannot be written"),
        (DiskFacts("vda", 8 * GIB, removable=True), "pulled out"),
    ],
)
def test_a_disk_that_does_not_serve_is_told(disk: DiskFacts, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        choose(Order(), [MEDIUM, disk])


@pytest.mark.parametrize("order", [Order(), Order(disk="vda")])
def test_long_sectors_are_taken_under_uefi_and_under_legacy_bios_not(order: Order) -> None:
    long = DiskFacts("vda", 8 * GIB, sector=4096)
    assert choose(order, [MEDIUM, long], uefi=True).disk == "vda"
    with pytest.raises(Refusal, match="legacy BIOS starts from no such disk"):
        choose(order, [MEDIUM, long], uefi=False)
    data = DiskFacts("vdb", 8 * GIB, sector=4096)
    assert choose(Order(disk="vda", persist="vdb"), [BLANK, data], uefi=False).persist == "vdb"


def test_without_any_disk_it_says_so() -> None:
    with pytest.raises(Refusal, match="no disk but the installer's own"):
        choose(Order(), [MEDIUM])


def test_a_stick_is_taken_when_it_is_named() -> None:
    stick = DiskFacts("sdb", 8 * GIB, removable=True)
    assert choose(Order(disk="sdb"), [MEDIUM, stick]).disk == "sdb"


def test_data_goes_to_the_disk_that_was_named_for_it() -> None:
    small = DiskFacts("vda", least_size(persist_elsewhere=True))
    assert choose(Order(persist="vdb"), [MEDIUM, small, OTHER]) == Plan("vda", "vdb")
    full = DiskFacts("vdb", 8 * GIB, holds=Holds.OLD_TABLE)
    with pytest.raises(Refusal, match="eve_nuke_disks=vdb"):
        choose(Order(persist="vdb"), [MEDIUM, small, full])


def test_an_installation_that_was_cut_off_is_done_again() -> None:
    assert choose(Order(), [DiskFacts("vda", 8 * GIB, holds=Holds.UNFINISHED)]).disk == "vda"


# -- what goes where --


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("size", [least_size(), 8 * GIB, 8 * GIB + 5 * 4096])
def test_partitions_fit_and_do_not_overlap(size: int, sector: int) -> None:
    laid = lay_out(size, system=True, data=True, sector=sector)
    taken = sorted((e.first, e.last) for e in laid.entries)
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(taken))
    first, last = usable(size, sector)
    assert first <= taken[0][0]
    assert taken[-1][1] <= last
    assert laid.places[Label.P3].size >= P3_LEAST
    assert {e.label: (e.start, e.size) for e in laid.entries} == {
        label: (place.start, place.size) for label, place in laid.places.items()
    }
    wanted = 6 if sector == SECTOR else 5
    assert len({e.guid for e in laid.entries}) == len(laid.entries) == wanted


def test_a_disk_for_data_alone_has_nothing_that_boots() -> None:
    laid = lay_out(8 * GIB, system=False, data=True)
    assert [e.label for e in laid.entries] == [Label.P3]
    assert Label.P3 not in lay_out(8 * GIB, system=True, data=False).places


# -- what it holds --

EMPTY = bytes(MIB)


def test_an_empty_disk_is_empty_at_both_ends() -> None:
    assert judge(EMPTY, EMPTY, None, False)[0] is Holds.NOTHING
    assert judge(EMPTY, EMPTY[:-1] + b"x", None, False) == (Holds.CONTENT, "data that is not known")


@pytest.mark.parametrize(
    ("offset", "signature", "what"),
    [(1080, b"\x53\xef", "ext4"), (0, b"LUKS\xba\xbe", "LUKS"), (65600, b"_BHRfS_M", "btrfs")],
)
def test_a_file_system_is_called_by_its_name(offset: int, signature: bytes, what: str) -> None:
    head = bytes(offset) + signature
    holds, words = judge(head.ljust(MIB, b"\0"), EMPTY, None, False)
    assert holds is Holds.CONTENT
    assert what in words


def test_tables_are_known_by_what_they_list() -> None:
    imga = entry(Label.IMGA, partition(Label.IMGA).type)
    installer = entry(Label.INSTALLER, partition(Label.INSTALLER).type)
    windows = entry("Basic data partition", partition(Label.INVENTORY).type)
    assert judge(EMPTY, EMPTY, (imga,), False)[0] is Holds.NODE
    assert judge(EMPTY, EMPTY, (installer,), False)[0] is Holds.INSTALLER
    holds, words = judge(EMPTY, EMPTY, (windows,), False)
    assert holds is Holds.PARTITIONS
    assert "Basic data partition" in words
    assert judge(EMPTY, EMPTY, None, True)[0] is Holds.OLD_TABLE
    assert judge(EMPTY, EMPTY, (), False)[0].is_free


def test_the_mark_of_an_unfinished_installation_counts_before_old_tables_at_the_end() -> None:
    imga = entry(Label.IMGA, partition(Label.IMGA).type)
    assert judge(MARK.ljust(MIB, b"\0"), EMPTY, (imga,), False)[0] is Holds.UNFINISHED
