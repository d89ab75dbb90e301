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


def test_the_system_boots_onboards_runs_the_app_and_finds_all_again_after_a_power_off(
    tmp_path: Path,
) -> None:
    assert (IMAGES / "manifest.json").exists(), "`make image` makes it"
    state = tmp_path / "state"
    first = VISIT.search(run_once(state))
    second = VISIT.search(run_once(state))
    assert first is not None
    assert second is not None
    assert int(second.group(1)) > int(first.group(1)), "the volume was lost with the power"
    console = (state / "machine/console.log").read_text(errors="replace")
    assert "measured CONFIG into register 14" in console
