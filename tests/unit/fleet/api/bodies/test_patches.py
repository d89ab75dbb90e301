"""RFC 7386 and RFC 6902 by their own examples, and bounds."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.api.bodies import patches
from edgevirt.fleet.api.errors import ApiError

RFC_7386: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386)
def test_merge_patch_as_the_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


RFC_6902: list[tuple[Any, list[Any], Any]] = [
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [
            {"op": "test", "path": "/baz", "value": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
        ],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["x"]}], {"foo": ["bar", ["x"]]}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
]


@pytest.mark.parametrize(("target", "operations", "result"), RFC_6902)
def test_json_patch_as_the_rfc_says(target: Any, operations: Any, result: Any) -> None:
    before = repr(target)
    assert patches.json_patch(target, operations) == result
    assert repr(target) == before, "the original must stay as it is"


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "test", "path": "/a", "value": True}, 422),
        ({"op": "test", "path": "/l", "value": []}, 422),
        ({"op": "remove", "path": "/none"}, 422),
        ({"op": "remove", "path": ""}, 422),
        ({"op": "replace", "path": "/none", "value": 1}, 422),
        ({"op": "add", "path": "/a/b", "value": 1}, 422),
        ({"op": "add", "path": "/l/9", "value": 1}, 422),
        ({"op": "add", "path": "/l/01x", "value": 1}, 422),
        ({"op": "add", "path": "a", "value": 1}, 422),
        ({"op": "add", "path": 7, "value": 1}, 422),
        ({"op": "move", "from": "/o", "path": "/o/in"}, 422),
        ({"op": "add", "path": "/b"}, 400),
        ({"op": "frobnicate", "path": "/b"}, 400),
        ("add", 400),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(operation: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        patches.json_patch({"a": 1, "l": [1], "o": {}}, [operation])
    assert refused.value.code == code


def test_a_patch_cannot_blow_an_object_up() -> None:
    bomb = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60
    with pytest.raises(ApiError, match="too large"):
        patches.json_patch({"a": ["x" * 1000]}, bomb)
    with pytest.raises(ApiError, match="operations"):
        patches.json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 1001)


STRATEGIC: list[tuple[Any, Any, Any]] = [
    ({"data": {"a": 1, "b": 2}}, {"data": {"a": None}}, {"data": {"b": 2}}),
    ({"data": {"a": 1}}, {"data": {"$patch": "replace", "b": 2}}, {"data": {"b": 2}}),
    ({"data": {"a": 1}}, {"data": {"$patch": "delete"}}, {"data": {}}),
    ({"a": 1, "b": 2}, {"$retainKeys": ["b"], "b": 3}, {"b": 3}),
    ({"finalizers": ["a"]}, {"finalizers": ["b"]}, {"finalizers": ["a", "b"]}),
    (
        {"finalizers": ["a", "b"]},
        {"$deleteFromPrimitiveList/finalizers": ["a"]},
        {"finalizers": ["b"]},
    ),
    ({"list": [1]}, {"list": [2], "$setElementOrder/list": [2]}, {"list": [2]}),
]


@pytest.mark.parametrize(("target", "patch", "result"), STRATEGIC)
def test_strategic_merge_as_kubectl_writes_it(target: Any, patch: Any, result: Any) -> None:
    assert patches.strategic(target, patch) == result
