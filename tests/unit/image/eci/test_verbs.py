"""What the verbs of `edgevirt eci` say to whoever slipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgevirt.image.eci.making_verbs import build, inspect
from edgevirt.image.eci.signing_verbs import make_key


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    (root / "app").write_text("#!/bin/sh\n")
    return root


def run_build(files: Path, *more: str) -> Result:
    return CliRunner().invoke(build, [str(files), "-o", str(files.parent / "out"), *more])


def test_an_image_without_a_command_is_made_with_a_warning(files: Path) -> None:
    made = run_build(files)
    assert (made.exit_code, "--entrypoint sets one" in made.stderr) == (0, True)
    assert made.stdout.startswith("sha256:")


def test_an_image_with_a_command_is_made_in_silence(files: Path) -> None:
    assert run_build(files, "--entrypoint", "/app").stderr == ""


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("hallo", "Docker Hub's is docker.io/library/hallo"),
        ("build/hallo", "Docker Hub's is docker.io/build/hallo"),
        ("./hallo", "there is no such directory"),
        ("/no/such/layout", "there is no such directory"),
    ],
)
def test_a_mistyped_path_is_not_asked_of_a_registry(image: str, said: str) -> None:
    answer = CliRunner().invoke(inspect, [image])
    assert (answer.exit_code, said in answer.stderr) == (1, True)


@pytest.mark.parametrize("taken", ["release.key", "release.pub"])
def test_a_key_that_is_there_is_kept(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    answer = CliRunner().invoke(make_key, [str(tmp_path / "release")])
    assert answer.exit_code == 1
    assert f"{taken} exists; remove it, or give another name" in answer.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
