"""What the node relies on in a vault: on ext4 with real encryption, and on the fake."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevirt.host.fakes.vault import FakeVault
from edgevirt.host.vault import EncryptedDirectory, Lock, Unsupported, Vault, VaultError, mark_new

KEY, OTHER = b"k" * 32, b"o" * 32
Open = Callable[[], Vault]
"""As a service does it that starts anew."""


@pytest.fixture(scope="module")
def encrypting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ext4 file system with encryption."""
    yield from _mounted(tmp_path_factory.mktemp("ext4"), "-O", "encrypt")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from _mounted(tmp_path_factory.mktemp("plain"))


def _mounted(directory: Path, *options: str) -> Iterator[Path]:
    image, point = directory / "disk", directory / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.fixture(params=["ext4", "fake"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a new vault is to be."""
    if request.param == "fake":
        return tmp_path / "vault"
    where: Path = request.getfixturevalue("encrypting")
    made: Path = where / request.node.name.replace("/", "_")[:80]
    made.mkdir()
    return made / "vault"


@pytest.fixture
def opened(home: Path, request: pytest.FixtureRequest) -> Open:
    real = request.node.callspec.params["home"] == "ext4"

    def open_vault() -> Vault:
        vault: Vault = EncryptedDirectory(home) if real else FakeVault(home)
        vault.state()
        return vault

    return open_vault


def test_a_new_vault_is_empty_and_not_encrypted(opened: Open) -> None:
    vault = opened()
    assert (vault.state(), vault.is_empty(), vault.was_used()) == (Lock.PLAIN, True, False)


def test_what_was_written_is_there_after_the_key_came_back(opened: Open, home: Path) -> None:
    vault = opened()
    vault.encrypt(KEY)
    assert vault.state() is Lock.OPEN
    (home / "sub").mkdir()
    (home / "sub" / "secret").write_text("geheim")
    vault.lock()
    assert opened().state() is Lock.LOCKED
    assert not (home / "sub").exists()
    assert opened().unlock(KEY)
    assert opened().state() is Lock.OPEN
    assert (home / "sub" / "secret").read_text() == "geheim"


def new_place(path: Path) -> None:
    """As the supervisor makes a directory for a service; only that service may look into it."""
    path.mkdir(mode=0o700)
    mark_new(path)


def test_a_locked_vault_still_tells_whether_it_was_ever_used(opened: Open, home: Path) -> None:
    vault = opened()
    vault.encrypt(KEY)
    new_place(home / "sub")
    vault.lock()
    assert (vault.is_empty(), vault.was_used()) == (False, False)
    vault.unlock(KEY)
    (home / "sub" / "file").write_text("x")
    (home / "sub" / "file").unlink()
    vault.lock()
    assert vault.was_used()


def test_another_key_opens_nothing(opened: Open) -> None:
    vault = opened()
    vault.encrypt(KEY)
    vault.lock()
    assert not vault.unlock(OTHER)
    assert vault.state() is Lock.LOCKED
    assert vault.unlock(KEY)


def test_what_holds_something_is_not_encrypted_over(opened: Open, home: Path) -> None:
    vault = opened()
    (home / "data").write_text("dear")
    with pytest.raises(VaultError, match="holds something already"):
        vault.encrypt(KEY)
    assert (vault.state(), (home / "data").read_text()) == (Lock.PLAIN, "dear")


def test_an_encrypted_vault_keeps_its_key(opened: Open) -> None:
    vault = opened()
    vault.encrypt(KEY)
    with pytest.raises(VaultError):
        vault.encrypt(OTHER)


def test_a_key_of_another_size_is_refused(opened: Open) -> None:
    with pytest.raises(VaultError, match="5 bytes"):
        opened().encrypt(b"short")


def test_only_what_was_never_used_is_set_aside_and_nothing_of_it_is_removed(
    opened: Open, home: Path
) -> None:
    vault = opened()
    vault.encrypt(KEY)
    new_place(home / "sub")
    vault.lock()
    vault.set_aside()
    assert (vault.state(), vault.is_empty()) == (Lock.PLAIN, True)
    assert home.with_name("vault.1").is_dir()
    vault.encrypt(OTHER)
    (home / "file").write_text("dear")
    vault.lock()
    with pytest.raises(VaultError, match="it was used"):
        vault.set_aside()
    assert vault.unlock(OTHER)
    assert (home / "file").read_text() == "dear"


@pytest.mark.parametrize("home", ["ext4"], indirect=True)
def test_a_locked_file_cannot_be_made_or_read(opened: Open, home: Path) -> None:
    vault = opened()
    vault.encrypt(KEY)
    (home / "secret").write_text("geheim")
    vault.lock()
    (name,) = os.listdir(home)
    assert name != "secret"
    with pytest.raises(OSError, match="Required key not available"):
        (home / name).read_bytes()
    with pytest.raises(OSError, match="Required key not available"):
        (home / "new").write_text("x")


@pytest.mark.parametrize("home", ["ext4"], indirect=True)
def test_a_vault_in_use_says_so_when_it_is_locked(opened: Open, home: Path) -> None:
    vault = opened()
    vault.encrypt(KEY)
    with (home / "secret").open("w"), pytest.raises(VaultError, match="in use"):
        vault.lock()


def test_a_file_system_without_encryption_is_told_from_a_failure(plain: Path) -> None:
    vault = EncryptedDirectory(plain / "vault")
    assert vault.state() is Lock.PLAIN
    with pytest.raises(Unsupported, match="its file system has no encryption"):
        vault.encrypt(KEY)
    fake = FakeVault(plain / "fake", supported=False)
    with pytest.raises(Unsupported):
        fake.encrypt(KEY)
