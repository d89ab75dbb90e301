"""Documents of images: read as they are meant, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model.content import BlobChild, BlobRole, ImageConfig
from edgevirt.model.ids import Digest
from edgevirt.wire.oci import (
    DOCKER_MANIFEST,
    MAX_DOCUMENT,
    BadDocument,
    Platform,
    parse_config,
    parse_manifest,
)

HERE = Platform("amd64", "linux")
A, B, C = (Digest("sha256:" + letter * 64) for letter in "abc")


def manifest(**fields: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"digest": A, "size": 10, "mediaType": "x"},
        "layers": [
            {"digest": B, "size": 20, "mediaType": "y"},
            {"digest": C, "size": 30, "annotations": {"unknown": "1"}},
        ],
        **fields,
    }
    return json.dumps(document).encode()


def index(*platforms: Any) -> bytes:
    digests = [A, B, C, A]
    manifests = [
        {"digest": digest, "size": 1, "platform": platform}
        for digest, platform in zip(digests, platforms, strict=False)
    ]
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


def words(text: str) -> dict[str, str]:
    """`OS/ARCHITECTURE[/VARIANT]` as an index says it."""
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def platform(text: str) -> Platform:
    return Platform(**words(text))


def test_a_manifest_is_its_config_and_its_layers_in_order() -> None:
    assert parse_manifest(manifest(), HERE).children == (
        BlobChild(digest=A, role=BlobRole.CONFIG, size=10, media_type="x"),
        BlobChild(digest=B, role=BlobRole.LAYER, size=20, media_type="y"),
        BlobChild(digest=C, role=BlobRole.LAYER, size=30, media_type=""),
    )


@pytest.mark.parametrize(
    ("here", "offered", "chosen"),
    [
        ("linux/amd64", ["windows/amd64", "linux/amd64"], B),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], A),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], B),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm64/v8"], B),
        ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v6"], B),
    ],
)
def test_an_index_gives_the_one_image_that_runs_here(
    here: str, offered: list[str], chosen: Digest
) -> None:
    (child,) = parse_manifest(index(*map(words, offered)), platform(here)).children
    assert (child.digest, child.role) == (chosen, BlobRole.MANIFEST)


def test_an_index_without_an_image_for_this_machine_says_what_there_is() -> None:
    data = index({"os": "linux", "architecture": "arm64"}, {"os": "linux", "architecture": "s390x"})
    with pytest.raises(
        BadDocument, match="no image for linux/amd64 among linux/arm64, linux/s390x"
    ):
        parse_manifest(data, HERE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"schemaVersion": 2}',
        manifest(schemaVersion=1),
        manifest(manifests=[]),
        manifest(layers=[{"digest": "sha512:" + "a" * 128, "size": 1}]),
        manifest(layers=[{"digest": "sha256:../../etc/passwd", "size": 1}]),
        manifest(layers=[{"digest": A + "0", "size": 1}]),
        manifest(layers=[{"digest": A, "size": -1}]),
        manifest(layers=[{"digest": A, "size": 1 << 60}]),
        manifest(layers=[{"digest": A, "size": "1"}]),
        manifest(layers=[{"digest": A, "size": 1}] * 1001),
        manifest(padding="x" * MAX_DOCUMENT),
        b'{"schemaVersion": 2, "x":' + b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BadDocument, match="cannot use"):
        parse_manifest(data, HERE)


def test_a_config_says_how_to_run_and_what_layers_hold() -> None:
    data = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/app"],
            "Cmd": None,
            "Env": ["A=1"],
            "WorkingDir": "",
            "User": "app:app",
            "ExposedPorts": {"80/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [A, B]},
        "history": [],
    }
    image, diff_ids = parse_config(json.dumps(data).encode(), HERE)
    assert image == ImageConfig(entrypoint=("/bin/app",), env=("A=1",), workdir="/", user="app:app")
    assert diff_ids == (A, B)


def test_a_config_that_says_nothing_of_a_machine_fits_any() -> None:
    assert parse_config(b"{}", HERE) == (ImageConfig(), ())


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b'{"architecture": "arm64", "os": "linux"}',
        b'{"architecture": "amd64", "os": "windows"}',
        b'{"rootfs": {"diff_ids": ["sha256:short"]}}',
        b'{"config": {"Env": "A=1"}}',
    ],
)
def test_a_config_that_cannot_run_here_is_refused(data: bytes) -> None:
    with pytest.raises(BadDocument, match="cannot use"):
        parse_config(data, HERE)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_manifest, parse_config):
        try:
            parse(data, HERE)
        except BadDocument as refusal:
            said = str(refusal)
        else:
            said = "cannot"
        assert said.startswith("cannot")
