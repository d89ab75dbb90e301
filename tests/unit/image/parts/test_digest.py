"""What measures the root image tells the right digest or not a word: then busybox does it."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from pathlib import Path

import pytest

from edgevirt.image.recipe import FILES

CONTENT = bytes(range(256)) * 8192
"""Two mebibytes."""


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digest") / "digest"
    options = ("-nostdlib", "-static", "-fno-stack-protector", "-fno-builtin", "-Wall", "-Werror")
    subprocess.run(["gcc", *options, "-o", made, FILES / "digest.c"], check=True)
    return made


def tell(digest: Path, *arguments: str | Path) -> tuple[int, bytes]:
    done = subprocess.run([digest, *arguments], capture_output=True, check=False)
    assert done.stderr == b""
    return done.returncode, done.stdout


def has_hashes() -> bool:
    """Whether this kernel computes digests for programs."""
    try:
        with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as made:
            made.bind(("hash", "sha256"))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("size", [4096, 1 << 20, (1 << 20) + 4096, 2 << 20])
def test_it_tells_the_digest_of_the_first_bytes(digest: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "device").write_bytes(CONTENT)
    expected = f"{hashlib.sha256(CONTENT[:size]).hexdigest()}\n".encode()
    told = tell(digest, tmp_path / "device", str(size))
    assert told == ((0, expected) if has_hashes() else (1, b""))


def test_of_a_device_that_is_shorter_it_tells_nothing(digest: Path, tmp_path: Path) -> None:
    (tmp_path / "device").write_bytes(CONTENT[:4096])
    assert tell(digest, tmp_path / "device", "8192") == (1, b"")


def test_without_a_device_it_tells_nothing(digest: Path, tmp_path: Path) -> None:
    assert tell(digest, tmp_path / "device", "4096") == (1, b"")
    assert tell(digest) == (1, b"")
