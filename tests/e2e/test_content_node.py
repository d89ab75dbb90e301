"""The content services in a node, with no more rights than their rows: those are enough."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.image.eci.oci import Pusher
from edgevirt.image.eci.registry import parse_remote, source_of
from edgevirt.image.eci.signing import sign
from edgevirt.model.base import SwState
from edgevirt.node.services import row_of
from edgevirt.wire.cosign import public_pem
from tests.parts.docker_registry import docker_registry
from tests.worlds.content import make_busybox_image

pytestmark = [pytest.mark.root, pytest.mark.e2e]

RUNNER = Path(__file__).with_name("run_content_node.py")
SOURCES = (RUNNER.parents[2] / "src", RUNNER.parent)
ROOT = "b0000000-0000-0000-0000-000000000001#0"
DATA = "b0000000-0000-0000-0000-000000000002#0"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """The state directory of a node that was told to run an image, and has what it wants."""
    (tmp_path / "config").mkdir()
    for name in ("server", "root-certificate.pem"):
        (tmp_path / "config" / name).write_text("unused\n")
    with docker_registry(tmp_path / "registry") as registry:
        pusher = Pusher(registry.host)
        await pusher.push(make_busybox_image(tmp_path / "image"), "apps/hello:1")
        remote = parse_remote(f"{registry.host}/apps/hello:1")
        key = ec.generate_private_key(ec.SECP256R1())
        async with source_of(remote) as source:
            await sign(source, pusher, remote, key)
        await pusher.close()
        port = int(registry.host.rpartition(":")[2])
        with running(tmp_path, port, public_pem(key)):
            wait_until(lambda: made(tmp_path / "state"), lambda: told(tmp_path / "state"))
    return tmp_path / "state"


def running(where: Path, registry: int, signer: str) -> RunningNode:
    wanted = {
        "state": str(where / "state"),
        "config": str(where / "config"),
        "registry": registry,
        "signers": [signer],
    }
    return RunningNode([sys.executable, str(RUNNER), json.dumps(wanted)])


class RunningNode:
    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": ":".join(map(str, SOURCES))}
        self._process = subprocess.Popen(self._command, env=environment)

    def __exit__(self, *failure: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


def wait_until(good: Callable[[], bool], told: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, told()
        time.sleep(0.1)


def seen(state: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((state / "persist/checkpoint/seen.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def made(state: Path) -> bool:
    volumes = seen(state).get("VolumeStatus", {})
    states = [volumes.get(key, {}).get("state") for key in (ROOT, DATA)]
    return states == [SwState.CREATED_VOLUME] * 2


def told(state: Path) -> str:
    logs = sorted((state / "persist").rglob("*.log"))
    return f"{seen(state)} {[path.read_text()[-2000:] for path in logs]}"


def tree_of(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    for path in sorted(directory.rglob("*")):
        yield str(path.relative_to(directory)), path.lstat()


def test_an_image_and_a_blank_disk_are_made_with_the_rights_of_the_rows(state: Path) -> None:
    persist = state / "persist/vault/data"
    (base, top) = (Path(path) for path in seen(state)["VolumeStatus"][ROOT]["layers"])
    layers = persist / "layers"
    found = dict(tree_of(layers / base.name))
    assert stat.S_ISREG(found["bin/busybox"].st_mode)
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(0, 0)}
    hidden = dict(tree_of(layers / top.name))["etc/motd"]
    assert stat.S_ISCHR(hidden.st_mode)
    assert hidden.st_rdev == 0
    for key in (ROOT, DATA):
        disk = persist / "volumes" / key
        assert (disk.stat().st_uid, disk.stat().st_mode & 0o777) == (row_of("volumes").uid, 0o600)
        subprocess.run(["e2fsck", "-fn", disk], check=True, capture_output=True)


def test_a_blob_is_the_verifiers_and_was_never_written_twice(state: Path) -> None:
    vault = state / "persist/vault/data"
    blobs = [path for path in (vault / "blobs").iterdir() if len(path.name) == 64]
    assert len(blobs) == 6  # the image's four, and its signature's two
    downloads = vault / "downloads"
    for blob in blobs:
        assert blob.stat().st_uid == row_of("verifier").uid
        assert blob.stat().st_mode & 0o777 == 0o444
        assert blob.samefile(downloads / blob.name)  # kept for a while, and the same file
