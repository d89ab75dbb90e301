"""Objects that wait for machines, by serial number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.enrollment.waiting import Places

SERIALS = st.lists(st.sampled_from(["", "s1", "s2"]), max_size=3)


def test_a_machine_whose_serials_are_the_same_can_be_changed_and_deleted() -> None:
    places = Places()
    for _ in range(2):
        places.put("default/alpha", "default", "s1", "s1")
        assert list(places.find("default", "s1")) == ["default/alpha"]
    places.drop("default/alpha")
    assert list(places.find("default", "s1")) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), SERIALS, st.booleans())))
def test_what_is_found_is_what_was_put_last(steps: list[tuple[str, list[str], bool]]) -> None:
    places, wanted = Places(), dict[str, list[str]]()
    for name, serials, gone in steps:
        if gone:
            places.drop(name)
            wanted.pop(name, None)
        else:
            places.put(name, "default", *serials)
            wanted[name] = serials
    for serial in ("s1", "s2"):
        expected = sorted(name for name, serials in wanted.items() if serial in serials)
        assert list(places.find("default", serial)) == expected
        assert list(places.find("elsewhere", serial)) == []
