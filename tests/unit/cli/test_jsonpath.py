"""JSON paths mean here what they mean to kubectl."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.cli.jsonpath import find, render
from edgevirt.cli.session import Failure

BODY: dict[str, Any] = {
    "metadata": {"name": "hello", "labels": {"example.com/site": "x"}},
    "status": {
        "restarts": 3,
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Scheduled", "status": "False"},
        ],
    },
}


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{.metadata.name}", "hello"),
        (".metadata.name", "hello"),
        ("metadata.name", "hello"),
        ("{$.metadata.name}", "hello"),
        ("{.status.restarts}", "3"),
        ("{.status.conditions[0].type}", "Ready"),
        ("{.status.conditions[-1].type}", "Scheduled"),
        ("{.status.conditions[9].type}", ""),
        ("{.status.conditions[*].type}", "Ready Scheduled"),
        ('{.status.conditions[?(@.type=="Ready")].status}', "True"),
        ("{.status.conditions[?(@.type=='Ready')].status}", "True"),
        ('{.status.conditions[?(@.type!="Ready")].status}', "False"),
        ("{.metadata.labels['example.com/site']}", "x"),
        ("{.status.conditions[0]}", '{"type": "Ready", "status": "True"}'),
        ("{.absent.field}", ""),
        ('{.metadata.name}{"\\n"}{.status.restarts}', "hello\n3"),
        ("name: {.metadata.name}!", "name: hello!"),
        (
            '{range .status.conditions[*]}{.type}={.status}{"\\n"}{end}.',
            "Ready=True\nScheduled=False\n.",
        ),
        ("{range .absent[*]}{.type}{end}", ""),
    ],
)
def test_a_template_shows_what_kubectl_would(template: str, shown: str) -> None:
    assert render(template, BODY) == shown


@pytest.mark.parametrize("path", [".a[", ".a[?(@.b)]", ".a b", "{range .items[*]}"])
def test_an_unreadable_path_is_refused(path: str) -> None:
    with pytest.raises(Failure, match="cannot read"):
        find(path, BODY)


@given(st.text(max_size=40))
def test_no_template_raises_anything_but_a_failure(template: str) -> None:
    with contextlib.suppress(Failure):
        assert isinstance(render(template, BODY), str)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{.items[*", "a brace is not closed"),
        (".status}", "a brace is not closed"),
        ("{.a}}, {{.b}", "a brace is not closed"),
        ("a}b{c", "a brace is not closed"),
        ("{range .status.conditions[*]}{.type}", "has no {end}"),
        ("{.metadata.name}{end}", "without a {range}"),
    ],
)
def test_half_a_template_is_refused_and_not_printed(template: str, why: str) -> None:
    with pytest.raises(Failure, match=re.escape(why)):
        render(template, BODY)
