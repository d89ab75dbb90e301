"""`make bench`: runs every bench, prints one table, writes `build/bench.json`."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BENCHES = (
    *("ipc", "device_api", "fleet_start", "app_start", "app_config", "node_memory", "download"),
    *("guests", "contained_start", "six_apps"),
    *("os_build", "os_boot"),
)


def show(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for title in ("FIGURE", "OURS", "BESIDE", "THEIRS", "RATIO", "AIM"):
        table.add_column(title, justify="left" if title in {"FIGURE", "BESIDE"} else "right")
    for row in rows:
        theirs, ratio = row["beside_value"], row["ratio"]
        table.add_row(
            row["name"],
            f"{row['value']:,.4g} {row['unit']}",
            row["beside"] or "",
            "" if theirs is None else f"{theirs:,.4g} {row['unit']}",
            "" if ratio is None else f"{ratio:.2f}",
            row["aim"] or "",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHES, metavar="NAME", help=str(BENCHES))
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    rows: list[dict[str, Any]] = []
    for name in options.names:
        with console.status(f"measuring {name}"):
            rows += importlib.import_module(f"bench.{name}").run()
    console.print(show(rows))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n")
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
