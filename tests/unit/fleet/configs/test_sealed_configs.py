"""Sealed configs: nothing is signed twice, and the store of them stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.fleet.configs.lineage import ConfigVersion
from edgevirt.fleet.configs.sealed import SealedConfigs
from edgevirt.fleet.keys import KeyRing, Role
from edgevirt.model.ids import NodeId
from edgevirt.model.node import DeviceConfig
from edgevirt.runtime import VirtualClock

CONFIG = DeviceConfig(id=NodeId("00000000-0000-0000-0000-000000000000"))
VERSION = ConfigVersion(1, 1.0, b"hash", b"content", b"inputs")


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path, ["localhost"], VirtualClock())


def test_what_was_sealed_is_found_until_the_config_or_the_key_is_another(ring: KeyRing) -> None:
    configs = SealedConfigs(ring)
    reply = configs.seal(0, CONFIG, VERSION)
    assert configs.find(0, b"hash") is reply
    assert configs.find(0, b"another") is None
    assert configs.find(1, b"hash") is None
    ring.rotate(Role.SIGNING)
    assert configs.find(0, b"hash") is None


def test_the_oldest_go_when_all_are_too_many(ring: KeyRing) -> None:
    size = len(SealedConfigs(ring).seal(0, CONFIG, VERSION).body)
    configs = SealedConfigs(ring, most_bytes=2 * size + size // 2)
    for row in (0, 1, 0, 2):
        configs.seal(row, CONFIG, VERSION)
    assert [configs.find(row, b"hash") is not None for row in (0, 1, 2)] == [True, False, True]


def test_a_refusal_is_not_kept(ring: KeyRing) -> None:
    configs = SealedConfigs(ring)
    configs.refuse(CONFIG)
    assert configs.find(0, b"") is None
