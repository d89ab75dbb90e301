"""Somebody pulls a node's plug at each moment of an update. It always boots; the update goes on by
itself while nobody has said that the new version is bad, and a trial that was cut is a trial that
failed. Tried once more it is kept, and the vault's key comes with it.

One machine lives through all of it, in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.os.node_in_the_field import Field, node_in_the_field

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(2400)]

NAME = "good"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with node_in_the_field(tmp_path_factory.mktemp("cuts")) as made:
        made.offer(NAME)
        made.want(NAME)
        yield made


def cut_power_at(node: Field, step: str) -> None:
    node.becomes(NAME, step)
    node.system.machine.cut_power()
    node.system.power_on()


def test_an_update_that_was_cut_while_it_was_written_is_written_again(node: Field) -> None:
    before = node.running()
    cut_power_at(node, "Writing")
    node.becomes(NAME, "Rebooting")
    assert node.running() == before


def test_a_power_cut_right_after_the_switch_boots_the_new_version(node: Field) -> None:
    cut_power_at(node, "Rebooting")
    node.becomes(NAME, "Testing")
    assert node.running() == node.made[NAME].version


def test_a_power_cut_in_the_test_window_brings_the_version_before_back(node: Field) -> None:
    [before] = [v for _, v in node.system.slots().values() if v != node.made[NAME].version]
    cut_power_at(node, "Testing")
    node.fell_back(NAME, before, "PowerFail", "without a word")


@pytest.mark.slow
def test_tried_once_more_it_is_kept_and_the_vault_opens_again(node: Field) -> None:
    before = node.running()
    node.want(NAME, retryCounter=1)
    node.becomes(NAME, "Updated")
    states = {version: state for state, version in node.system.slots().values()}
    assert states == {node.made[NAME].version: "active", before: "unused"}
    node.app_is_back()
    vault = node.system.condition("VaultOpen")
    assert vault["status"] == "True", vault
