"""The only wiring: one command, `edgevirt`, for operators, the fleet and the node."""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1:] == ["node", "boot"]:
    # process 1 of a machine needs none of the command line's parts, and each costs time
    from edgevirt.node.boot import main as boot

    boot()

from edgevirt.cli.main import edgevirt as edgevirt  # the programs join its verbs
from edgevirt.image.commands import image
from edgevirt.image.eci.commands import eci
from edgevirt.programs.fleet import fleet
from edgevirt.programs.node import node


def _service_users() -> tuple[tuple[str, int], ...]:
    from edgevirt.node.services import ROWS

    return tuple((row.name, row.uid) for row in ROWS)


for program in (eci, fleet, node, image):
    edgevirt.add_command(program)
image.context_settings["obj"] = _service_users


def main() -> None:
    edgevirt(prog_name="edgevirt")


if __name__ == "__main__":
    main()
