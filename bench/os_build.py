"""How large the operating system's image is, and how long its build takes: with nothing kept, with
one changed source file, and with nothing changed.

The build of a copy of this checkout, so that its files may be changed. `nothing kept` fetches its
packages from this machine's Debian mirror.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parents[1]
CHANGED: Final = "src/edgevirt/node/boot.py"
MOST_MB, COLD_AIM, CHANGED_AIM = 150, 300, 20
MEGA: Final = 1e6


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "checkout")
        shutil.copytree(
            CHECKOUT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(CHECKOUT / "requirements.lock", copy)
        cold = _build(copy)
        size = _root_size(copy)
        with (copy / CHANGED).open("a") as file:
            file.write("\n# changed\n")
        changed = _build(copy)
        again = _build(copy)
    return [
        _row("OS image, root", size / MEGA, "MB", MOST_MB),
        _row("OS build, nothing kept", cold, "s", COLD_AIM),
        _row("OS build, one source file changed", changed, "s", CHANGED_AIM, again),
    ]


def _build(checkout: Path) -> float:
    """Seconds."""
    command = [sys.executable, "-m", "edgevirt", "image", "build"]
    where = ["--cache", str(checkout / "cache"), "--out", str(checkout / "out")]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    began = time.monotonic()
    done = subprocess.run(
        command + where, env=environment, capture_output=True, text=True, check=False, cwd=checkout
    )
    if done.returncode:
        raise RuntimeError(f"cannot measure the build: {done.stderr[-2000:]}")
    return time.monotonic() - began


def _root_size(checkout: Path) -> int:
    [manifest] = (checkout / "out").glob("*/manifest.json")
    artifacts = json.loads(manifest.read_text())["artifacts"]
    return next(int(a["size"]) for a in artifacts if a["kind"] == "root")


def _row(
    name: str, value: float, unit: str, aim: int, theirs: float | None = None
) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "aim": f"≤ {aim}",
        "beside": "with nothing changed" if theirs else None, "beside_value": theirs,
        "ratio": value / theirs if theirs else None,
    }  # fmt: skip
