"""The guest's program that becomes the app, in a small root of its own."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest

from edgevirt.image.parts.guest import SOURCES
from tests.worlds.container import make_layer

pytestmark = pytest.mark.root


@functools.cache
def program() -> bytes:
    with tempfile.TemporaryDirectory() as out:
        options = ("-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static")
        more = ("-fno-pic", "-no-pie", "-fno-stack-protector")
        made = Path(out, "enter")
        subprocess.run(["gcc", *options, *more, "-o", made, SOURCES / "enter.c"], check=True)
        return made.read_bytes()


class Entered:
    """How it ended."""

    def __init__(self, code: int, printed: str, said: str) -> None:
        self.code, self.printed, self.said = code, printed, said


@pytest.fixture
def root(tmp_path: Path) -> Path:
    layer = make_layer(tmp_path / "root")
    (layer / "proc").mkdir()
    return layer


def enter(
    root: Path, *words: str, user: str = "", directory: str = "/", env: tuple[str, ...] = ()
) -> Entered:
    given = root.parent / "app"
    variables = ("PATH=/nowhere:/bin", *env)
    strings = (user, directory, str(len(variables)), *variables, *words)
    given.write_bytes("".join(f"{one}\0" for one in strings).encode())
    here = root.parent / "enter"
    here.write_bytes(program())
    here.chmod(0o755)
    said = root.parent / "said"
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec 3>$0; exec "$@"', said, here, root, given],
        capture_output=True,
        text=True,
        check=False,
    )
    return Entered(done.returncode, done.stdout, said.read_text())


def test_the_app_gets_its_words_its_environment_and_its_directory(root: Path) -> None:
    done = enter(root, "sh", "-c", "pwd; echo $A; exit 5", directory="/made/here", env=("A=b c",))
    assert (done.code, done.printed, done.said) == (5, "/made/here\nb c\n", "")


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("app", "uid=1234(app) gid=2345(app) groups=2345(app),3456(extra)"),
        ("1234", "uid=1234(app) gid=2345(app) groups=2345(app),3456(extra)"),
        ("app:extra", "uid=1234(app) gid=3456(extra) groups=3456(extra)"),
        ("77:88", "uid=77 gid=88 groups=88"),
        ("77", "uid=77 gid=0(root) groups=0(root)"),
    ],
)
def test_a_user_is_looked_up_as_docker_does(root: Path, user: str, ids: str) -> None:
    assert enter(root, "id", user=user).printed.strip() == ids


@pytest.mark.parametrize(
    ("words", "more", "code", "why"),
    [
        (("missing",), {}, 127, "cannot start missing: no such program"),
        (("/no/such",), {}, 127, "cannot start /no/such: no such program"),
        (("/etc/passwd",), {}, 126, "may not be executed"),
        (("/bin/foreign",), {}, 126, "no program for this machine's processor"),
        (("id",), {"user": "nobody"}, 126, "no such user"),
        (("id",), {"user": "app:nobody"}, 126, "no such group"),
        (("id",), {"directory": "/etc/passwd"}, 126, "no such directory"),
        ((), {}, 126, "no command"),
    ],
)
def test_what_cannot_start_says_why(
    root: Path, words: tuple[str, ...], more: dict[str, str], code: int, why: str
) -> None:
    foreign = bytearray((root / "bin/busybox").read_bytes()[:4096])
    foreign[18:20] = b"\xb7\x00"  # an ELF of another architecture
    (root / "bin/foreign").write_bytes(foreign)
    (root / "bin/foreign").chmod(0o755)
    done = enter(root, *words, **more)  # type: ignore[arg-type]
    assert done.code == code
    assert why in done.said


def test_links_in_the_image_lead_nowhere_else(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/etc/real")
    (root / "etc/real").write_text("root:x:0:0::/:/bin/sh\nodd:x:4321:0::/:/bin/sh\n")
    assert enter(root, "id", "-u", user="odd").printed == "4321\n"


def test_signals_that_were_ignored_are_heard_again(root: Path) -> None:
    done = enter(root, "sh", "-c", "kill -INT $$; echo survived")
    assert (done.code, done.printed) == (-2, "")
