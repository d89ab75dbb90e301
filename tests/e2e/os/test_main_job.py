"""`make run` as people meet it: the operating system boots in a machine, and the app answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.os.os_system import IMAGES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[3]
VISIT = re.compile(r"hello from hello-node: visit (\d+)")


def run_once(state: Path) -> str:
    command = [sys.executable, "-m", "examples.hello.run", "--once", "--state", str(state)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=420
    )
    console = state / "machine/console.log"
    tail = console.read_text(errors="replace")[-4000:] if console.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + tail
    return done.stdout


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job") / "state"


def visits(state: Path) -> int:
    """What the app answers to somebody who comes after one more `make run`."""
    found = VISIT.search(run_once(state))
    assert found is not None
    return int(found.group(1))


@pytest.fixture(scope="module")
def first(state: Path) -> int:
    """What the app answered to the first who came."""
    assert (IMAGES / "manifest.json").exists(), "`make image` makes it"
    return visits(state)


def test_the_system_boots_onboards_and_runs_the_app(first: int, state: Path) -> None:
    assert first >= 1
    console = (state / "machine/console.log").read_text(errors="replace")
    assert "measured CONFIG into register 14" in console


def test_the_power_button_ends_it_in_order(first: int, state: Path) -> None:
    """It was pressed when the app had answered; `first` is what the app said."""
    console = (state / "machine/console.log").read_text(errors="replace")
    assert "edgevirt: switching off" in console


@pytest.mark.slow
def test_started_once_more_it_finds_all_again(first: int, state: Path) -> None:
    assert visits(state) > first, "the volume was lost with the power"
