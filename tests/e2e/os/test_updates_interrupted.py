"""A node in the field, whose update meets the world: a controller that is not reached any more, a
plug that is pulled while it writes, and people who change their mind.

One machine lives through all of it, in the order of this file. It takes some nine minutes where
machines are emulated, so it is no part of each run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.os.node_in_the_field import Field, node_in_the_field
from tests.e2e.os.variants import lean, unreachable

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.updates,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]

GOOD = "good"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with node_in_the_field(tmp_path_factory.mktemp("interrupted"), tpm=False) as made:
        yield made


def test_a_version_that_does_not_reach_the_controller_is_left(node: Field) -> None:
    before = node.running()
    node.offer("unreachable", unreachable)
    node.want("unreachable")
    node.fell_back("unreachable", before, "Fallback", "did not reach the controller")


def test_an_update_that_was_cut_while_it_was_written_is_written_again(node: Field) -> None:
    before = node.running()
    node.offer(GOOD, lean)
    node.want(GOOD)
    node.cut_power_at(GOOD, "Writing")
    node.becomes(GOOD, "Rebooting")
    assert node.running() == before


def test_the_fallback_counter_brings_the_version_before_back(node: Field) -> None:
    before = node.running()
    node.becomes(GOOD, "Updated")
    node.want(GOOD, fallbackCounter=1)
    node.system.eventually("it goes back", lambda: node.running() == before, 600.0)
    node.becomes(GOOD, "Failed")
    assert "force.fallback.counter" in node.system.os()["phase"]
    assert node.system.slots()[node.other_label()][1] == node.made[GOOD].version
    node.app_is_back()
