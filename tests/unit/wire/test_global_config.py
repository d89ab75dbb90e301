"""Properties that a node is given as a file, in the form of EVE."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgevirt.wire.global_config import GLOBAL_CONFIG_MAX, GlobalConfigError, parse_global_config


def file(**items: dict[str, Any]) -> bytes:
    return json.dumps({"GlobalSettings": items, "AgentSettings": {"zedagent": {}}}).encode()


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ({"ItemType": 1, "IntValue": 20, "StrValue": "", "BoolValue": False}, "20"),
        ({"ItemType": 2, "BoolValue": True}, "true"),
        ({"ItemType": 2}, "false"),
        ({"ItemType": 3, "StrValue": "debug"}, "debug"),
        ({"ItemType": 4, "TriStateValue": 2}, "enabled"),
        ({"ItemType": 4, "TriStateValue": 1}, "disabled"),
    ],
)
def test_a_value_of_each_type_is_read_as_a_controller_would_send_it(
    item: dict[str, Any], value: str
) -> None:
    assert parse_global_config(file(some=item)) == (("some", value),)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"GlobalSettings": 1}',
        file(some={"ItemType": 9}),
        file(some={"ItemType": 4, "TriStateValue": 3}),
        file(some={"ItemType": 1, "IntValue": "20"}),
        b" " * (GLOBAL_CONFIG_MAX + 1),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_reason(raw: bytes) -> None:
    with pytest.raises(GlobalConfigError, match=r"cannot use GlobalConfig/global\.json: ."):
        parse_global_config(raw)
