"""Files that a node is given bring it to its controller, and are not taken twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevirt.model.ports import PortSource
from edgevirt.node.paths import Paths
from edgevirt.node.ports.given import read_given, remember_bootstrap
from tests.unit.wire.test_bootstrap import AT, Identity, make_identity, sealed

OVERRIDE = json.dumps({"Version": 1, "Ports": [{"IfName": "eth0"}]})


@pytest.fixture(scope="module")
def controller() -> Identity:
    return make_identity()


@pytest.fixture
def paths(tmp_path: Path, controller: Identity) -> Paths:
    made = Paths(config=tmp_path / "config", persist=tmp_path / "persist", run=tmp_path / "run")
    made.override.parent.mkdir(parents=True)
    made.ingested.mkdir(parents=True)
    made.root_certificate.write_bytes(controller.root)
    return made


def sources(paths: Paths) -> list[PortSource]:
    return [config.source for config in read_given(paths, AT).configs]


def test_without_files_nothing_is_offered(paths: Paths) -> None:
    assert read_given(paths, AT).configs == ()


def test_a_bootstrap_config_is_taken_once(paths: Paths, controller: Identity) -> None:
    paths.bootstrap_config.write_bytes(sealed(controller))
    (config,) = read_given(paths, AT).configs
    assert (config.source, config.priority) == (PortSource.BOOTSTRAP, 1_700_000_000)
    assert config.ports[0].address == "192.0.2.7/24"
    remember_bootstrap(paths)
    assert sources(paths) == []


def test_properties_of_a_bootstrap_config_count_at_each_start(
    paths: Paths, controller: Identity
) -> None:
    paths.bootstrap_config.write_bytes(sealed(controller))
    first = read_given(paths, AT).properties
    assert first
    remember_bootstrap(paths)
    assert read_given(paths, AT).properties == first


def test_another_bootstrap_config_is_taken_too(paths: Paths, controller: Identity) -> None:
    paths.bootstrap_config.write_bytes(b"one")
    remember_bootstrap(paths)
    paths.bootstrap_config.write_bytes(sealed(controller))
    assert sources(paths) == [PortSource.BOOTSTRAP]


def test_one_that_is_not_the_controllers_is_refused_with_the_reason(
    paths: Paths, controller: Identity
) -> None:
    paths.bootstrap_config.write_bytes(sealed(make_identity()))
    given = read_given(paths, AT)
    assert given.configs == ()
    assert given.error.startswith("cannot use the bootstrap config: cannot trust certificate")


def test_an_override_counts_only_without_a_bootstrap_config(
    paths: Paths, controller: Identity
) -> None:
    paths.override.write_text(OVERRIDE)
    assert sources(paths) == [PortSource.OVERRIDE]
    paths.bootstrap_config.write_bytes(sealed(controller))
    assert sources(paths) == [PortSource.BOOTSTRAP]


def test_an_override_that_is_none_is_passed_over(paths: Paths) -> None:
    paths.override.write_text("{")
    assert sources(paths) == []
