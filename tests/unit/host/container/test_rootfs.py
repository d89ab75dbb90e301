"""Users are found in the image's own files, and a hostile image changes nothing of the node's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevirt.host.container.rootfs import NoSuchUser, User, read_text, resolve_user, write_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\n"
        "garbage\n"
        "web:x:33:34::/:/bin/sh\n"
        "evil:x:-1:0::/:/bin/sh\n"
        "huge:x:99999999999:0::/:/bin/sh\n"
        "odd:x:²:0::/:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nweb:x:34:\nlog:x:40:web,other\ntty:x:41:other\n")
    return root


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("", User(0, 0, (0,))),
        ("root", User(0, 0, (0,))),
        ("web", User(33, 34, (34, 40))),
        ("33", User(33, 34, (34, 40))),
        ("033", User(33, 34, (34, 40))),
        ("77", User(77, 0, (0,))),
        ("web:tty", User(33, 41, (41,))),
        ("77:88", User(77, 88, (88,))),
        (":log", User(0, 40, (40,))),
    ],
)
def test_user_of_an_image(root: Path, wanted: str, user: User) -> None:
    assert resolve_user(root, wanted) == user


@pytest.mark.parametrize("wanted", ["nobody", "web:nobody", "evil", "huge", "odd", "99999999999"])
def test_user_that_is_none_is_refused(root: Path, wanted: str) -> None:
    with pytest.raises(NoSuchUser):
        resolve_user(root, wanted)


def test_image_without_the_files_has_numbers_and_root_only(tmp_path: Path) -> None:
    assert resolve_user(tmp_path, "") == User(0, 0, (0,))
    assert resolve_user(tmp_path, "5:6") == User(5, 6, (6,))
    with pytest.raises(NoSuchUser):
        resolve_user(tmp_path, "root")


def test_link_is_followed_inside_the_image(root: Path) -> None:
    (root / "etc/passwd").rename(root / "usr-passwd")
    (root / "etc/passwd").symlink_to("/usr-passwd")
    assert resolve_user(root, "web").uid == 33


def test_link_does_not_lead_out_of_the_image(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("web:x:4242:0::/:/bin/sh\n")
    for target in (str(outside), "../../passwd", "/proc/self/root" + str(outside)):
        (root / "etc/passwd").unlink()
        (root / "etc/passwd").symlink_to(target)
        assert read_text(root, "/etc/passwd") == ""


def test_what_is_no_sane_file_is_as_if_it_were_not_there(root: Path) -> None:
    path = root / "etc/passwd"
    path.unlink()
    os.mkfifo(path)
    assert read_text(root, "/etc/passwd") == ""
    path.unlink()
    path.mkdir()
    assert read_text(root, "/etc/passwd") == ""
    path.rmdir()
    path.symlink_to("passwd")
    assert read_text(root, "/etc/passwd") == ""
    path.unlink()
    path.write_bytes(b"x" * ((1 << 20) + 1))
    assert read_text(root, "/etc/passwd") == ""


def test_a_file_is_written_where_links_lead_inside_the_image(root: Path) -> None:
    (root / "var").mkdir()
    (root / "run").mkdir()
    (root / "var/run").symlink_to("/run")
    write_file(root, "/var/run/app/deep/conf", b"said", 0o640)
    written = root / "run/app/deep/conf"
    assert written.read_bytes() == b"said"
    assert written.stat().st_mode & 0o7777 == 0o640


def test_a_file_that_is_written_takes_the_place_of_a_link_and_follows_none(
    root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("the node's")
    (root / "conf").symlink_to(outside)
    write_file(root, "/conf", b"the app's", 0o644)
    assert outside.read_text() == "the node's"
    assert (root / "conf").read_text() == "the app's"
    write_file(root, "/conf", b"once more", 0o600)
    assert (root / "conf").stat().st_mode & 0o7777 == 0o600


def test_a_directory_of_the_node_gets_no_file_and_one_that_is_in_the_way_stays(
    root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number, target in enumerate((str(outside), "../../outside", "/nowhere")):
        (root / f"link{number}").symlink_to(target)
        with pytest.raises(OSError, match="cannot open /link"):
            write_file(root, f"/link{number}/file", b"x", 0o644)
    assert not list(outside.iterdir())
    (root / "full").mkdir()
    with pytest.raises(OSError, match="cannot write /full"):
        write_file(root, "/full", b"x", 0o644)
