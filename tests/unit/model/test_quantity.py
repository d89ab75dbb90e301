from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model import quantity


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (7, 7),
        ("7", 7),
        ("1Ki", 1024),
        ("512Mi", 512 * 2**20),
        ("2G", 2 * 10**9),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("100m", 1),
        ("0.1", 1),
        (".5Ki", 512),
    ],
)
def test_a_quantity_means_what_it_means_in_kubernetes(written: int | str, amount: int) -> None:
    assert quantity.whole(written) == amount


@pytest.mark.parametrize("written", ["", "lots", "1 Gi", "1gi", "Mi", "1Zi", "1e999", "0x10", "१"])
def test_what_is_no_quantity_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must be a quantity"):
        quantity.whole(written)


@pytest.mark.parametrize(
    ("amount", "words"),
    [(2 << 30, "2 GiB"), (1536 << 20, "1536 MiB"), (1_000_001, "1000001 bytes"), (0, "0 bytes")],
)
def test_a_size_is_spelled_for_a_sentence(amount: int, words: str) -> None:
    assert quantity.spelled(amount) == words


@given(st.integers(min_value=0, max_value=2**62))
def test_a_size_for_people_loses_nothing(amount: int) -> None:
    assert quantity.whole(quantity.human(amount)) == amount
