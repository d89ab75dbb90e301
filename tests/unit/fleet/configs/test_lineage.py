"""A node whose config the store cannot have given shows that the store is an older copy."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgevirt.fleet.configs import lineage
from edgevirt.fleet.configs.lineage import CONFIG_VERSION, NONE_YET, ConfigVersion, Held
from edgevirt.runtime.memory import MemoryStore

NOW = 1_000.0
OLDER_FORM = b"n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"


def version(number: int, content: bytes = b"ours") -> ConfigVersion:
    made = lineage.make_hash(number, float(number), content)
    return ConfigVersion(number, float(number), made, content, b"inputs")


FIVE = version(5)
FOREIGN = {number: version(number, b"lost").config_hash for number in range(1, 9)}


def test_a_hash_tells_its_number_and_has_the_length_of_any_other() -> None:
    for number in (1, 17, 10**9):
        made = version(number).config_hash
        assert len(made) == len(OLDER_FORM)
        assert lineage.number_of(made) == number
    assert version(5).config_hash != FOREIGN[5]


@pytest.mark.parametrize(
    "other", [b"", OLDER_FORM, b"5", b"5.short", b"-5." + b"a" * 40, b"9" * 16 + b"." + b"a" * 26]
)
def test_what_another_controller_or_version_gave_has_no_number(other: bytes) -> None:
    assert lineage.number_of(other) is None


@pytest.mark.parametrize("known", [FOREIGN[5], FOREIGN[6], FOREIGN[8]])
def test_what_this_store_did_not_give_holds_the_config_back(known: bytes) -> None:
    judged = lineage.judge(FIVE, known, NOW)
    assert judged.held == Held(known.decode(), NOW)
    assert lineage.judge(judged, known, NOW + 60) == judged, "since the first time"


@pytest.mark.parametrize("known", [b"", FIVE.config_hash, FOREIGN[4], FOREIGN[1], OLDER_FORM])
def test_a_node_that_starts_or_is_behind_gets_its_config(known: bytes) -> None:
    assert lineage.judge(FIVE, known, NOW).held is None


def test_a_node_that_came_in_after_the_backup_is_held_too() -> None:
    assert lineage.judge(NONE_YET, FOREIGN[1], NOW).held is not None
    assert lineage.judge(NONE_YET, b"", NOW).held is None


@pytest.mark.parametrize("last", [FIVE, NONE_YET])
def test_a_node_that_starts_meanwhile_stays_held(last: ConfigVersion) -> None:
    held = lineage.judge(last, FOREIGN[7], NOW)
    assert lineage.judge(held, b"", NOW).held == held.held


def test_what_is_let_go_goes_beyond_what_the_node_has() -> None:
    let_go = lineage.let_go(lineage.judge(FIVE, FOREIGN[8], NOW))
    assert (let_go.number, let_go.held) == (8, None)
    assert let_go.inputs == let_go.content == b"", "so that it is made anew, whatever it is"
    assert let_go.timestamp == FIVE.timestamp
    following = version(9)
    assert lineage.judge(following, FOREIGN[8], NOW).held is None


async def test_after_a_restore_a_node_has_to_show_what_it_has() -> None:
    store = MemoryStore()
    await store.put(CONFIG_VERSION, "a", FIVE)
    assert await lineage.hold_all(store, NOW) == 1
    kept = await store.get(CONFIG_VERSION, "a")
    assert kept is not None
    held = kept.value
    assert held.held == Held("restored-1970-01-01T00:16:40Z", NOW)
    for unclear in (b"", OLDER_FORM):
        assert lineage.judge(held, unclear, NOW).held == held.held
    for ours in (FIVE.config_hash, FOREIGN[3]):
        assert lineage.judge(held, ours, NOW) == FIVE
    assert lineage.judge(held, FOREIGN[6], NOW).held == Held(FOREIGN[6].decode(), NOW)
    assert lineage.let_go(held) == replace(NONE_YET, number=5, timestamp=5.0)
