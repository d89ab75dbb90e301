"""The main example tells the app that it started from what is told of an earlier start."""

from __future__ import annotations

import pytest

from examples.hello.run import runs_since

BEGAN = 1_700_000_000.75


@pytest.mark.parametrize(
    ("status", "runs"),
    [
        ({}, False),
        ({"state": "RUNNING", "bootTime": "2023-11-14T22:13:19Z"}, False),
        ({"state": "RUNNING", "bootTime": "2023-11-14T22:13:20Z"}, True),
        ({"state": "BOOTING", "bootTime": "2023-11-14T22:13:25Z"}, False),
    ],
)
def test_what_is_told_of_an_earlier_start_is_not_taken_for_this_one(
    status: dict[str, str], runs: bool
) -> None:
    assert runs_since(status, BEGAN) is runs
