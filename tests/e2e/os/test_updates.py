"""A node in the field is sent bad versions of its system, each bad in its own way. It comes back
from all of them by itself, says why, and does not try them twice.

One machine lives through all of it, in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.os.node_in_the_field import Field, node_in_the_field
from tests.e2e.os.variants import hangs, no_services, panics

IMPATIENT = 'set_global dom0_extra_args "edgevirt.watchdog=60"\n'

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.updates, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    directory = tmp_path_factory.mktemp("updates")
    with node_in_the_field(directory, settings=IMPATIENT, tpm=False) as made:
        yield made


def test_a_kernel_that_panics_is_left_and_its_last_words_are_told(node: Field) -> None:
    before = node.running()
    node.offer("panics", panics)
    node.want("panics")
    node.fell_back("panics", before, "Kernel", "panicked")
    assert "Attempted to kill init" in node.system.node_status()["rebootStack"]


def test_a_version_that_hangs_is_left_when_the_watchdog_bites(node: Field) -> None:
    before = node.running()
    node.offer("hangs", hangs)
    node.want("hangs")
    node.fell_back("hangs", before, "WatchdogHung", "the hardware watchdog reset the machine")


@pytest.mark.slow
def test_a_version_whose_supervisor_dies_again_and_again_is_left(node: Field) -> None:
    before = node.running()
    node.offer("mute", no_services)
    node.want("mute")
    node.fell_back("mute", before, "Fatal", "the supervisor died 5 times")
