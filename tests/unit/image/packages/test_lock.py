"""The lock of Debian packages: read as it was written, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from edgevirt.image.packages.lock import LOCKS, Lock, LockError, Package, format_lock, parse_lock

PACKAGE = Package(
    "root", "kmod", "30+20221128-1", "amd64", "debian", 95180, "ab" * 32, "pool/k/kmod.deb"
)


def test_a_lock_is_read_as_it_was_written() -> None:
    lock = Lock(1_795_985_283, (PACKAGE,))
    assert parse_lock(format_lock(lock)) == lock


@pytest.mark.parametrize(
    "line",
    [
        "root kmod 30 amd64 debian 95180 abcd pool/kmod.deb",
        "root kmod 30 amd64 debian many " + "ab" * 32 + " pool/kmod.deb",
        "root kmod 30 amd64 debian 1 " + "ab" * 32 + " ../kmod.deb",
        "root kmod 30 amd64 debian 1 " + "ab" * 32 + " /pool/kmod.deb",
        "root kmod",
    ],
)
def test_what_is_no_package_is_told_by_its_line(line: str) -> None:
    with pytest.raises(LockError, match="line 2"):
        parse_lock(f"epoch 1\n{line}\n")


def test_a_lock_without_a_time_is_refused() -> None:
    with pytest.raises(LockError, match="epoch"):
        parse_lock("# nothing\n")


def test_no_mirror_stands_in_a_lock_of_ours() -> None:
    for path in LOCKS.glob("*.lock"):
        assert "://" not in path.read_text()
        assert parse_lock(path.read_text()).packages
