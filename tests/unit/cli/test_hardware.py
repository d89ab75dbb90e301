"""A draft of a HardwareModel says what people have to look at, and no more."""

from __future__ import annotations

from edgevirt.cli.hardware import without_zeros


def test_only_cards_with_virtual_functions_tell_how_many() -> None:
    card, port = {"name": "eth1", "virtualFunctions": 4}, {"name": "com1", "virtualFunctions": 0}
    model = {"kind": "HardwareModel", "spec": {"product": "box", "adapters": [card, port]}}
    shown = [card, {"name": "com1"}]
    assert without_zeros(model) == {**model, "spec": {"product": "box", "adapters": shown}}
