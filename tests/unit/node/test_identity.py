"""The loss of the data partition makes no other node of a machine without a security module."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.node.identity import Identity
from edgevirt.node.paths import Paths


class Partition:
    """CONFIG: never writes over a file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fails = False

    def write(self, device: Path, name: str, content: bytes) -> None:
        if self.fails:
            raise OSError("cannot write")
        if name in self.files:
            raise FileExistsError(name)
        self.files[name] = content


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(config=tmp_path / "config", persist=tmp_path, run=tmp_path / "run")
    made.keys.mkdir()
    return made


def with_keys(paths: Paths) -> None:
    (paths.keys / "device.key.pem").write_bytes(b"key")
    (paths.keys / "device.cert.pem").write_bytes(b"cert")


def test_the_key_is_kept_once_it_is_made(paths: Paths, tmp_path: Path) -> None:
    partition = Partition()
    identity = Identity("/dev/config", {}, paths, tmp_path / "none", partition.write)
    assert not identity.keep()
    with_keys(paths)
    assert identity.keep()
    assert partition.files == {"device.cert.pem": b"cert", "device.key.pem": b"key"}


def test_what_identifies_a_node_is_never_replaced(paths: Paths, tmp_path: Path) -> None:
    with_keys(paths)
    partition = Partition()
    partition.files["device.key.pem"] = b"another"
    assert Identity("/dev/config", {}, paths, tmp_path / "none", partition.write).keep()
    assert partition.files["device.key.pem"] == b"another"


def test_a_failure_is_tried_again(paths: Paths, tmp_path: Path) -> None:
    with_keys(paths)
    partition = Partition()
    partition.fails = True
    identity = Identity("/dev/config", {}, paths, tmp_path / "none", partition.write)
    assert not identity.keep()
    partition.fails = False
    assert identity.keep()


def test_nothing_is_written_where_a_module_holds_the_key(paths: Paths, tmp_path: Path) -> None:
    with_keys(paths)
    partition = Partition()
    module = tmp_path / "tpmrm0"
    module.touch()
    assert Identity("/dev/config", {}, paths, module, partition.write).keep()
    assert Identity(None, {}, paths, tmp_path / "none", partition.write).keep()
    given = {"device.key.pem": b"given"}
    assert Identity("/dev/config", given, paths, tmp_path / "none", partition.write).keep()
    assert partition.files == {}
