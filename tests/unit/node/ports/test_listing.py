"""Who is preferred, who is kept, and who is next."""

from __future__ import annotations

import msgspec
import pytest

from edgevirt.model.ports import PortConfigEntry, PortSource
from edgevirt.node.ports import listing
from tests.unit.node.ports.world import START, by_dhcp, static, world

NOW = START + 10_000


def entry(address: str, source: PortSource, at: float, **more: float) -> PortConfigEntry:
    return PortConfigEntry(config=static(address, source, at), **more)  # type: ignore[arg-type]


def offered(*configs: tuple[str, PortSource, float]) -> list[str]:
    entries: listing.Entries = ()
    for address, source, at in configs:
        entries = listing.offer(entries, static(address, source, at))
    return [e.config.ports[0].address.split(".")[-1].split("/")[0] for e in entries]


MANUAL, CONTROLLER = PortSource.MANUAL, PortSource.CONTROLLER
OVERRIDE, BOOTSTRAP, LAST = PortSource.OVERRIDE, PortSource.BOOTSTRAP, PortSource.LAST_RESORT


@pytest.mark.parametrize(
    ("configs", "order"),
    [
        ([("10.0.0.1", OVERRIDE, 9.0), ("10.0.0.2", CONTROLLER, 1.0)], ["2", "1"]),
        ([("10.0.0.1", CONTROLLER, 1.0), ("10.0.0.2", OVERRIDE, 9.0)], ["1", "2"]),
        ([("10.0.0.1", CONTROLLER, 9.0), ("10.0.0.2", CONTROLLER, 1.0)], ["2", "1"]),
        ([("10.0.0.1", CONTROLLER, 9.0), ("10.0.0.2", MANUAL, 1.0)], ["2", "1"]),
        ([("10.0.0.1", MANUAL, 9.0), ("10.0.0.2", CONTROLLER, 1.0)], ["2", "1"]),
        ([("10.0.0.1", BOOTSTRAP, 5.0), ("10.0.0.2", OVERRIDE, 9.0)], ["2", "1"]),
        ([("10.0.0.1", LAST, 99.0), ("10.0.0.2", BOOTSTRAP, 5.0)], ["2", "1"]),
        ([("10.0.0.1", OVERRIDE, 5.0), ("10.0.0.2", OVERRIDE, 6.0)], ["2"]),
        ([("10.0.0.1", CONTROLLER, 5.0), ("10.0.0.2", CONTROLLER, 6.0),
          ("10.0.0.1", CONTROLLER, 7.0)], ["1", "2"]),
    ],
)  # fmt: skip
def test_the_latest_wish_of_the_controller_or_of_somebody_there_comes_first(
    configs: list[tuple[str, PortSource, float]], order: list[str]
) -> None:
    assert offered(*configs) == order


def test_a_wish_that_is_repeated_does_not_move_up() -> None:
    """Each new config of the controller repeats its ports, with a newer time."""
    entries = listing.offer((), static("10.0.0.1", CONTROLLER, 1.0))
    entries = listing.offer(entries, static("10.0.0.2", MANUAL, 2.0))
    assert listing.offer(entries, static("10.0.0.1", CONTROLLER, 99.0)) is entries


def test_what_is_known_of_a_wish_that_comes_back_is_kept() -> None:
    entries = listing.offer((), static("10.0.0.1", CONTROLLER, 1.0))
    entries = (msgspec.structs.replace(entries[0], last_failed=5.0, last_error="x"),)
    entries = listing.offer(entries, static("10.0.0.2", CONTROLLER, 2.0))
    entries = listing.offer(entries, static("10.0.0.1", CONTROLLER, 3.0))
    assert (entries[0].last_failed, entries[0].last_error) == (5.0, "x")


def test_entries_below_one_set_by_hand_are_never_used() -> None:
    entries = (
        entry("10.0.0.1", CONTROLLER, 9.0),
        entry("10.0.0.2", MANUAL, 8.0),
        entry("10.0.0.3", CONTROLLER, 7.0, last_succeeded=NOW),
    )
    assert listing.next_index(entries, 0, NOW) == 1
    assert listing.next_index(entries, 1, NOW) == 0
    failed = (msgspec.structs.replace(entries[0], last_failed=NOW), *entries[1:])
    assert listing.next_index(failed, 1, NOW) is None
    assert listing.parking_index(failed) == 1


@pytest.mark.parametrize(
    ("ago", "passed_over"), [(0.0, True), (299.0, True), (300.0, False), (-50.0, False)]
)
def test_what_failed_in_the_last_five_minutes_is_passed_over(ago: float, passed_over: bool) -> None:
    """Less than nothing ago: the clock was set back."""
    entries = (
        entry("10.0.0.1", CONTROLLER, 9.0),
        entry("10.0.0.2", CONTROLLER, 8.0, last_failed=NOW - ago),
    )
    assert (listing.next_index(entries, 0, NOW) is None) is passed_over


def test_once_a_config_of_the_controller_worked_the_makeshifts_go() -> None:
    makeshifts = (entry("10.0.0.3", OVERRIDE, 1.0, last_succeeded=3.0), entry("10.0.0.4", LAST, 0))
    new, old = entry("10.0.0.1", CONTROLLER, 9.0), entry("10.0.0.2", CONTROLLER, 8.0)
    before = (new, old, *makeshifts)
    assert listing.prune(before, new, last_resort=False) == (new, *makeshifts)
    worked = entry("10.0.0.1", CONTROLLER, 9.0, last_succeeded=NOW)
    assert listing.prune((worked, old, *makeshifts), worked, last_resort=False) == (worked,)
    kept = listing.prune((worked, old, *makeshifts), worked, last_resort=True)
    assert kept == (worked, makeshifts[1])


def test_the_one_that_worked_last_stays_whatever_it_is() -> None:
    proven = entry("10.0.0.2", CONTROLLER, 8.0, last_succeeded=5.0)
    resort = entry("10.0.0.4", LAST, 0, last_succeeded=NOW)
    new = entry("10.0.0.1", CONTROLLER, 9.0)
    assert listing.prune((new, proven, resort), new, last_resort=False) == (new, proven, resort)


async def test_the_last_resort_follows_the_interfaces_that_there_are() -> None:
    from edgevirt.host.fakes.ports import Cable

    async with world({"eth0": Cable()}) as w:
        w.ports.cables["eth1"] = Cable()
        w.ports.touch()
        await w.clock.advance(1.0)
        assert set(w.ports.wanted) == {"eth0", "eth1"}


async def test_somebody_at_the_machine_has_the_last_word_over_what_was_there() -> None:
    async with world() as w:
        await w.offer(by_dhcp("eth0"), 1.0)
        await w.offer(static("192.0.2.50", MANUAL), 1.0)
        assert w.ports.wanted["eth0"].address == "192.0.2.50/24"
        w.works_with("192.0.2.2")
        await w.clock.advance(4_000.0)
        assert w.ports.wanted["eth0"].address == "192.0.2.50/24"
