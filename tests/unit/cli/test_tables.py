"""Columns, ages and sizes."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.cli.tables import Columns, age, ago, duration, is_stamp, size
from edgevirt.fleet.objects.base.columns import human_duration


def test_columns_line_up_and_rows_end_where_their_text_ends() -> None:
    lines = list(Columns(["a", "bb"]).lines([["x", "y"], ["long", ""]]))
    assert [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines] == [
        "A      BB",
        "x      y",
        "long   <none>",
    ]


def test_later_rows_keep_the_columns_and_repeat_no_header() -> None:
    columns = Columns(["name", "state"])
    list(columns.lines([["a-long-name", "up"]]))
    assert list(columns.lines([["b", "down"]])) == ["b             down"]


def test_what_a_node_says_stays_in_its_line() -> None:
    (line,) = Columns(["x"], header=False).lines([["a\nb\tc"]])
    assert line == "a b c"


@given(st.integers(0, 10**9))
def test_ages_are_those_of_the_fleets_own_tables(seconds: int) -> None:
    if seconds < 2 * 365 * 86400:
        assert duration(seconds) == human_duration(seconds)
    else:
        assert duration(seconds).endswith("d")


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    assert duration(-30) == "0s"


def test_times_to_come_are_told_as_such() -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=600.5)
    assert ago(later.strftime("%Y-%m-%dT%H:%M:%SZ")).startswith(("in 10m", "in 9m"))


@pytest.mark.parametrize("value", [None, "", "yesterday", 7])
def test_what_is_no_time_has_no_age(value: object) -> None:
    assert not is_stamp(value)
    assert age(value) == "<none>"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0"),
        (632, "632"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1536, "1.5Ki"),
        (64 << 20, "64Mi"),
        (25275924480, "23.5Gi"),
        (1023 << 20, "1023Mi"),
        (5 << 40, "5Ti"),
    ],
)
def test_sizes_are_written_as_manifests_write_them(count: int | None, text: str) -> None:
    assert size(count) == text
