"""Properties of field sets that server-side apply rests on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.api.bodies import fieldsets
from edgevirt.fleet.api.shapes.shapes import shape_of
from edgevirt.fleet.objects.node.edgenode import EdgeNodeSpec

SHAPE = shape_of(EdgeNodeSpec)
_words = st.text("abc.", min_size=1, max_size=3)
_ports = st.fixed_dictionaries(
    {"name": _words},
    optional={
        "cost": st.integers(0, 3),
        "interface": _words,
        "dns": st.lists(_words, min_size=1, max_size=2),
    },
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "serial": _words,
        "activate": st.booleans(),
        "properties": st.dictionaries(_words, _words, min_size=1, max_size=3),
        "ports": st.lists(_ports, min_size=1, max_size=3, unique_by=lambda port: port["name"]),
    },
)


@given(specs)
def test_fields_survive_being_written_down(spec: Any) -> None:
    fields = frozenset(fieldsets.leaves(spec, SHAPE))
    assert fieldsets.from_v1(fieldsets.to_v1(fields)) == fields


@given(specs, specs)
def test_a_merge_has_all_that_was_wanted_and_keeps_the_rest(live: Any, wanted: Any) -> None:
    merged = fieldsets.leaves(fieldsets.merge(live, wanted, SHAPE), SHAPE)
    wants, has = fieldsets.leaves(wanted, SHAPE), fieldsets.leaves(live, SHAPE)
    assert wants.items() <= merged.items()
    assert {path: value for path, value in has.items() if path not in wants}.items() <= (
        merged.items()
    )
    assert merged.keys() == wants.keys() | has.keys()


@given(specs)
def test_merging_the_same_again_changes_nothing(spec: Any) -> None:
    assert fieldsets.merge(spec, spec, SHAPE) == spec


@given(specs, st.randoms(use_true_random=False))
def test_removed_fields_are_gone_and_the_others_stay(spec: Any, random: Any) -> None:
    fields = fieldsets.leaves(spec, SHAPE)
    gone = frozenset(path for path in fields if random.random() < 0.5)
    kept = frozenset(fields) - gone
    left = fieldsets.leaves(fieldsets.without(spec, SHAPE, gone, kept), SHAPE)
    # An element of a list that something of is kept, keeps its keys and itself.
    holders = {path[:n] for path in kept for n in range(1, len(path) + 1)}
    for path in gone & left.keys():
        assert path in holders or path[-1] == "f:name"
    assert all(left.get(path) == fields[path] for path in kept)


@given(specs)
def test_removing_everything_leaves_nothing(spec: Any) -> None:
    fields = frozenset(fieldsets.leaves(spec, SHAPE))
    assert fieldsets.without(spec, SHAPE, fields, frozenset()) == {}


def test_fields_are_named_for_people() -> None:
    path = ("f:spec", "f:interfaces", 'k:{"name":"eth0"}', "f:ports", 'v:"x"')
    assert fieldsets.for_people(path) == '.spec.interfaces[name="eth0"].ports[="x"]'


def test_a_key_that_is_left_out_is_its_default() -> None:
    from edgevirt.fleet.objects.app.interface import AppInterface

    shape = shape_of(AppInterface)
    given = fieldsets.leaves({"ports": [{"nodePort": 80, "appPort": 1}]}, shape)
    said = {"ports": [{"nodePort": 80, "appPort": 1, "protocol": "TCP"}]}
    assert given.keys() < fieldsets.leaves(said, shape).keys()
    assert fieldsets.merge(said, {"ports": [{"nodePort": 80, "appPort": 2}]}, shape) == {
        "ports": [{"nodePort": 80, "appPort": 2, "protocol": "TCP"}]
    }
