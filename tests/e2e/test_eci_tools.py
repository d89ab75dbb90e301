"""Other tools of the field read, list and move our images, and we read theirs: skopeo, oras."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from oras.client import OrasClient

from tests.e2e.workshop import MI, Workshop, make_machine, open_workshop
from tests.parts.docker_registry import PASSWORD, USER

pytestmark = pytest.mark.e2e


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with open_workshop(tmp_path) as made:
        yield made


def logged_in() -> OrasClient:
    client = OrasClient(insecure=True, auth_backend="basic")
    client.auth.set_basic_auth(USER, PASSWORD)
    return client


def test_skopeo_lists_reads_and_moves_it(workshop: Workshop) -> None:
    digest = workshop.eci("build", make_machine(workshop.where), "-o", "out")
    name = workshop.name("apps/moved:1")
    workshop.skopeo("copy", "--dest-tls-verify=false", "oci:out:latest", f"docker://{name}")
    assert workshop.eci("pull", name, "-o", "back") == digest
    told = json.loads(workshop.skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert told["Digest"] == digest
    assert told["Labels"] == {"org.lfedge.eci.artifact.kernel": "/kernel"}
    workshop.skopeo("copy", "--src-tls-verify=false", f"docker://{name}", "oci:by-skopeo:latest")
    listed = workshop.skopeo("list-tags", "--tls-verify=false", f"docker://{name[:-2]}")
    assert json.loads(listed)["Tags"] == ["1"]
    assert workshop.eci("inspect", "by-skopeo") == workshop.eci("inspect", "out")


def test_oras_lists_it_and_pulls_its_parts_by_their_names(workshop: Workshop) -> None:
    workshop.eci("build", make_machine(workshop.where), "-o", "out")
    name = workshop.name("apps/machine:1")
    workshop.eci("push", "out", name)
    client = logged_in()
    assert client.get_tags(name) == ["1"]
    pulled = [Path(path) for path in client.pull(target=name, outdir=str(workshop.where / "parts"))]
    assert (workshop.where / "parts/kernel").read_bytes() == b"no kernel, but bytes"
    pieces = sorted(path.name for path in pulled if path.name.startswith("disk-root-"))
    assert pieces == [f"disk-root-{at:016x}" for at in (0, MI, 6 * MI)]


def test_what_oras_pushed_is_a_machine_by_its_media_type(workshop: Workshop) -> None:
    """Its config is oras' own, and empty."""
    (workshop.where / "disk.raw").write_bytes(b"a disk".ljust(MI, b"\0"))
    name = workshop.name("apps/theirs:1")
    disk = f"{workshop.where}/disk.raw:application/vnd.lfedge.disk.layer.v1+raw"
    answer = logged_in().push(target=name, files=[disk], disable_path_validation=True)
    assert answer.status_code == 201
    workshop.eci("pull", name, "-o", "back")
    told = json.loads(workshop.eci("inspect", "back", "-o", "json"))
    (item,) = told["items"]
    assert (told["kind"], item["what"], item["format"]) == ("machine", "root disk", "raw")
