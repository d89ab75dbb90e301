"""The only wiring: one command, `edgevirt`, for operators, the fleet and the node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevirt.cli.main import edgevirt
from edgevirt.cli.session import fail

if TYPE_CHECKING:
    from edgevirt.fleet.process import Settings

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/edgevirt/fleet"),
    show_default=True,
    help="The fleet's directory; its user's alone.",
)
NODES = click.option("--nodes", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT")
OPERATORS = click.option(
    "--operators", default="127.0.0.1:6443", show_default=True, metavar="HOST:PORT"
)
SANS = click.option(
    "--san", "sans", multiple=True, help="Another name or address that nodes call it by."
)


@edgevirt.group()
def fleet() -> None:
    """The controller."""


def _settings(data: Path, nodes: str, operators: str, sans: tuple[str, ...]) -> Settings:
    from edgevirt.fleet.process import Settings

    return Settings(data=data, nodes=_endpoint(nodes), operators=_endpoint(operators), names=sans)


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@fleet.command()
@DATA
@NODES
@OPERATORS
@SANS
@click.option("--kubeconfig", type=click.Path(path_type=Path), default=Path("kubeconfig"))
def init(data: Path, nodes: str, operators: str, sans: tuple[str, ...], kubeconfig: Path) -> None:
    """Make the fleet's keys, if there are none, and a kubeconfig for its first operator."""
    from edgevirt.fleet import process

    process.init(_settings(data, nodes, operators, sans), kubeconfig)
    click.echo(f"kubeconfig written to {kubeconfig}")


@fleet.command()
@DATA
@NODES
@OPERATORS
@SANS
def run(data: Path, nodes: str, operators: str, sans: tuple[str, ...]) -> None:
    """Serve operators and nodes until told to stop."""
    from edgevirt.fleet import process

    process.run(_settings(data, nodes, operators, sans))


@fleet.command()
@click.argument("role", type=click.Choice(["signing", "encryption", "tls"]))
@DATA
def rotate(role: str, data: Path) -> None:
    """Make a new certificate; a running fleet takes it up, and so do its nodes."""
    from edgevirt.fleet import process

    process.rotate(data, role)
    click.echo(f"{role} certificate rotated")


@fleet.command("node-config")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@DATA
@click.option("--server", required=True, metavar="HOST:PORT", help="Where nodes reach the fleet.")
@click.option("--serial", required=True, help="The node's soft serial number.")
def node_config(directory: Path, data: Path, server: str, serial: str) -> None:
    """Write what a new node is given: the server, the root certificate, an onboarding key."""
    from edgevirt.fleet import process

    process.write_node_config(data, directory, server, serial)
    click.echo(f"node config written to {directory}; onboard.cert.pem is for an OnboardingKey")


@edgevirt.group()
def node() -> None:
    """The edge node."""


@node.command("run")
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Its directory.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--serial", default="", help="Its soft serial number; else made once and kept.")
@click.option("--name", default="edge-node", show_default=True, help="Its host name.")
@click.option("--host", "hosts", multiple=True, help="A name for this machine, or NAME=ADDRESS.")
@click.option("--forward", "forwards", multiple=True, metavar="PORT:LOOPBACK_PORT")
@click.option("--nameserver", "nameservers", multiple=True)
@click.option("--masquerade", is_flag=True, help="Let it reach out through this machine.")
def run_node(
    state: Path,
    config: Path,
    serial: str,
    name: str,
    hosts: tuple[str, ...],
    forwards: tuple[str, ...],
    nameservers: tuple[str, ...],
    masquerade: bool,
) -> None:
    """Run a node in host mode: in namespaces and a directory of its own. Needs root."""
    from edgevirt.node.launch import CONTROLLER, HostNode, LaunchError, run_host_node

    ports = dict(_pair(text, ":") for text in forwards)
    try:
        code = run_host_node(
            HostNode(
                state=state,
                config=config,
                serial=serial,
                hostname=name,
                hosts=dict(_pair(text, "=", CONTROLLER) for text in hosts),
                nameservers=nameservers,
                forwards={int(outer): int(inner) for outer, inner in ports.items()},
                masquerade=masquerade,
            )
        )
    except LaunchError as error:
        fail(str(error))
        return
    sys.exit(code)


def _pair(text: str, mark: str, other: str = "") -> tuple[str, str]:
    first, _, second = text.partition(mark)
    return first, second or other


@node.command()
@click.option("--format", "form", type=click.Choice(["text", "dot", "mermaid"]), default="text")
def graph(form: str) -> None:
    """Who owns and who reads which kind on a node."""
    from edgevirt.node.services import ROWS, load, print_graph

    click.echo(print_graph([load(row) for row in ROWS], form))  # type: ignore[arg-type]


def main() -> None:
    edgevirt(prog_name="edgevirt")


if __name__ == "__main__":
    main()
