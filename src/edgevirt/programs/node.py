"""`edgevirt node …`: run a node, look into one.

Each verb imports the node when it is called, so that the door opens at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgevirt.cli.session import fail
from edgevirt.programs.endpoints import PortPair


@click.group(short_help="The edge node: run one, look into it.")
def node() -> None:
    """The edge node."""


@node.command("run", short_help="Run a node in host mode.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="What it keeps: made on the first run.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="What `edgevirt fleet node-config` wrote.",
)
@click.option("--serial", default="", help="Its soft serial number; else made once and kept.")
@click.option("--name", default="edge-node", show_default=True, help="Its host name.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME[=ADDRESS]",
    help="A name that it knows; without an address: this machine. May be repeated.",
)
@click.option(
    "--forward",
    "forwards",
    type=PortPair(),
    multiple=True,
    metavar="PORT:PORT",
    help="A port that leads it to one of this machine's loopback. May be repeated.",
)
@click.option("--nameserver", "nameservers", multiple=True, metavar="ADDRESS", help="Its DNS.")
@click.option("--masquerade", is_flag=True, help="Let it reach out through this machine.")
@click.option(
    "--pace",
    type=click.FloatRange(0.01, 1.0),
    default=1.0,
    show_default=True,
    help="Of its pauses between questions to the controller: 0.2 is five times as often. To try"
    " things out.",
)
def run_node(
    state: Path,
    config: Path,
    serial: str,
    name: str,
    hosts: tuple[str, ...],
    forwards: tuple[tuple[int, int], ...],
    nameservers: tuple[str, ...],
    masquerade: bool,
    pace: float,
) -> None:
    """Run a node in host mode: in namespaces and a directory of its own. Needs root."""
    from edgevirt.node.launch import CONTROLLER, HostNode, LaunchError, run_host_node

    pairs = (text.partition("=") for text in hosts)
    try:
        code = run_host_node(
            HostNode(
                state=state,
                config=config,
                serial=serial,
                hostname=name,
                hosts={host: address or CONTROLLER for host, _, address in pairs},
                nameservers=nameservers,
                forwards=dict(forwards),
                masquerade=masquerade,
                pace=pace,
            )
        )
    except LaunchError as error:
        fail(str(error))
    sys.exit(code)


@node.command("boot", short_help="Be process 1 of the operating system.")
def boot_node() -> None:
    """Be process 1 of the node's operating system; the image's /sbin/init does this."""
    from edgevirt.node.boot import main

    main()


@node.command(short_help="Who owns and who reads which kind.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "mermaid"]),
    default="text",
    show_default=True,
)
def graph(form: str) -> None:
    """Print who owns and who reads which kind on a node."""
    from edgevirt.node.services import ROWS, load, print_graph

    click.echo(print_graph([load(row) for row in ROWS], form))  # type: ignore[arg-type]
