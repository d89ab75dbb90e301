"""Config properties as a JSON file among those that a node is given, in the form of EVE's
`GlobalConfig/global.json`: each with its type and a field for each type that there is.

Facts of the form: EVE's types of config items. Settings of single agents are passed over.
"""

from __future__ import annotations

from typing import Final

import msgspec

GLOBAL_CONFIG_MAX: Final = 64 << 10
"""Bytes."""
_INT, _BOOL, _STRING, _TRISTATE = 1, 2, 3, 4
_TRISTATES: Final = ("none", "disabled", "enabled")


class GlobalConfigError(ValueError):
    """«cannot use GlobalConfig/global.json: why»."""


class _Item(msgspec.Struct):
    type: int = msgspec.field(name="ItemType", default=0)
    number: int = msgspec.field(name="IntValue", default=0)
    text: str = msgspec.field(name="StrValue", default="")
    truth: bool = msgspec.field(name="BoolValue", default=False)
    tristate: int = msgspec.field(name="TriStateValue", default=0)


class _File(msgspec.Struct):
    settings: dict[str, _Item] = msgspec.field(name="GlobalSettings", default_factory=dict)


def parse_global_config(raw: bytes) -> tuple[tuple[str, str], ...]:
    """(name, value) of each property, not judged. Raises GlobalConfigError."""
    if len(raw) > GLOBAL_CONFIG_MAX:
        raise _unusable(f"it has more than {GLOBAL_CONFIG_MAX} bytes")
    try:
        found = msgspec.json.decode(raw, type=_File)
    except msgspec.DecodeError as error:
        raise _unusable(str(error)) from None
    return tuple((name, _value(name, item)) for name, item in found.settings.items())


def _value(name: str, item: _Item) -> str:
    if item.type == _INT:
        return str(item.number)
    if item.type == _BOOL:
        return str(item.truth).lower()
    if item.type == _STRING:
        return item.text
    if item.type == _TRISTATE and 0 <= item.tristate < len(_TRISTATES):
        return _TRISTATES[item.tristate]
    raise _unusable(f"{name} has no type and value that are known")


def _unusable(why: str) -> GlobalConfigError:
    return GlobalConfigError(f"cannot use GlobalConfig/global.json: {why}")
