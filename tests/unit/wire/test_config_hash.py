"""When nodes would fetch a config needlessly, or not at all."""

from __future__ import annotations

from edgevirt.wire.config_hash import config_hash
from edgevirt.wire.messages import config


def with_addresses(*keys: str) -> config.EdgeDevConfig:
    message = config.EdgeDevConfig()
    port = message.deviceIoList.add(phylabel="eth0")
    for key in keys:
        port.phyaddrs[key] = "value"
    return message


def test_an_empty_hash_would_tell_a_new_node_that_nothing_changed() -> None:
    assert len(config_hash(config.EdgeDevConfig())) == 43


def test_an_unchanged_config_would_be_fetched_again() -> None:
    names = [f"key{n}" for n in range(50)]
    assert config_hash(with_addresses(*names)) == config_hash(with_addresses(*reversed(names)))


def test_a_changed_config_would_not_be_fetched() -> None:
    assert config_hash(with_addresses("ifname")) != config_hash(with_addresses("pcilong"))
    assert config_hash(with_addresses()) != config_hash(config.EdgeDevConfig())
