"""`edgevirt fleet …`: set up the controller, serve, let people and nodes in.

Each verb imports the fleet when it is called, so that the door opens at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Verb
from edgevirt.programs.endpoints import Endpoint, HostPort
from edgevirt.programs.refusals import told

if TYPE_CHECKING:
    from edgevirt.fleet.wiring import Settings


def _in_a_directory(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    if not value.parent.is_dir():
        raise click.BadParameter(f"there is no directory {value.parent}", ctx, param)
    return value


DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/edgevirt/fleet"),
    envvar="EDGEVIRT_FLEET_DATA",
    show_default=True,
    show_envvar=True,
    metavar="DIR",
    help="The fleet's directory; its user's alone.",
)
NODES = click.option(
    "--nodes",
    type=HostPort(),
    default="127.0.0.1:8443",
    show_default=True,
    metavar="HOST:PORT",
    help="Where nodes are answered.",
)
OPERATORS = click.option(
    "--operators",
    type=HostPort(),
    default="127.0.0.1:6443",
    show_default=True,
    metavar="HOST:PORT",
    help="Where operators are answered.",
)
SANS = click.option(
    "--san",
    "sans",
    multiple=True,
    metavar="NAME|ADDRESS",
    help="Another name or address that it is called by; may be repeated.",
)
KUBECONFIG = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("kubeconfig"),
    show_default=True,
    metavar="FILE",
    callback=_in_a_directory,
    help="The file to write.",
)


@click.group(short_help="The controller: set up, serve, let people and nodes in.")
def fleet() -> None:
    """The controller."""


def _settings(data: Path, nodes: Endpoint, operators: Endpoint, sans: tuple[str, ...]) -> Settings:
    from edgevirt.fleet.wiring import Settings

    return Settings(data=data, nodes=nodes, operators=operators, names=sans)


def _existing(data: Path) -> Path:
    if not (data / "keys").is_dir():
        fail(
            f"cannot find a fleet in {data}",
            "name its directory with --data or EDGEVIRT_FLEET_DATA; `fleet init` makes one",
        )
    return data


@fleet.command(short_help="Make the fleet's keys, and a kubeconfig.")
@DATA
@NODES
@OPERATORS
@SANS
@KUBECONFIG
def init(
    data: Path, nodes: Endpoint, operators: Endpoint, sans: tuple[str, ...], kubeconfig: Path
) -> None:
    """Make the fleet's keys, if there are none, and a kubeconfig for an operator who may do all."""
    from edgevirt.fleet import process

    with told():
        process.init(_settings(data, nodes, operators, sans), kubeconfig)
    click.echo(f"kubeconfig written to {kubeconfig}")


@fleet.command(short_help="Serve operators and nodes.")
@DATA
@NODES
@OPERATORS
@SANS
def run(data: Path, nodes: Endpoint, operators: Endpoint, sans: tuple[str, ...]) -> None:
    """Serve operators and nodes until told to stop (SIGTERM)."""
    from edgevirt.fleet import process

    with told():
        process.run(_settings(data, nodes, operators, sans))


@fleet.command(short_help="Make a new certificate.")
@click.argument(
    "role", type=click.Choice(["signing", "encryption", "tls"]), metavar="signing|encryption|tls"
)
@DATA
def rotate(role: str, data: Path) -> None:
    """Make a new certificate; a running fleet takes it up, and so do its nodes."""
    from edgevirt.fleet import process

    with told():
        process.rotate(_existing(data), role)
    click.echo(f"{role} certificate rotated")


@fleet.command(short_help="Note that the directory was restored.")
@DATA
def restored(data: Path) -> None:
    """Note that the directory was restored from a backup, before the fleet is started on it.

    Nodes may have newer configs than it knows of. Each gets none until it has shown that it has
    not, or until `edgevirt overwrite` says that it may.
    """
    from edgevirt.fleet import process
    from edgevirt.fleet.wiring import Settings

    with told("stop it first"):
        nodes = process.note_restored(Settings(_existing(data)))
    click.echo(f"{nodes} nodes get no config before they have shown which one they have")


@fleet.command("node-config", cls=Verb, short_help="Write what a new node is given.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@DATA
@click.option("--server", required=True, metavar="HOST:PORT", help="Where nodes reach the fleet.")
@click.option("--serial", required=True, help="The node's soft serial number.")
@click.option("--bootstrap", "node_name", default="", metavar="NODE",
              help="Also what this EdgeNode says of its ports; asks the running fleet.",
              shell_complete=complete_named("edgenodes"))  # fmt: skip
@click.pass_obj
def node_config(
    session: Session, directory: Path, data: Path, server: str, serial: str, node_name: str
) -> None:
    """Write what a new node is given: the server, the root certificate, an onboarding key.

    With --bootstrap also its bootstrap config. The directory is what goes on its CONFIG partition.
    """
    from edgevirt.fleet import process
    from edgevirt.fleet.enrollment.bootstrap import FILE

    content = _bootstrap(session, node_name) if node_name else b""
    with told():
        process.write_node_config(_existing(data), directory, server, serial)
        if content:
            (directory / FILE).write_bytes(content)
    click.echo(f"node config written to {directory}; onboard.cert.pem is for an OnboardingKey")


@fleet.command("bootstrap-config", cls=Verb, short_help="Write how a node reaches the fleet.")
@click.argument("name", metavar="NODE", shell_complete=complete_named("edgenodes"))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
              metavar="FILE", callback=_in_a_directory, help="The file to write.")  # fmt: skip
@click.pass_obj
def bootstrap_config(session: Session, name: str, output: Path) -> None:
    """Write how a node reaches the fleet at first: its ports and properties, signed by the fleet.

    It goes on the node's CONFIG partition as bootstrap-config.pb and is used once.
    """
    content = _bootstrap(session, name)
    with told():
        output.write_bytes(content)
    click.echo(f"bootstrap config of edgenode/{name} written to {output}")


def _bootstrap(session: Session, name: str) -> bytes:
    type_ = session.type_of("edgenodes")
    path = type_.object_path(session.scope(type_), name, "bootstrap")
    return session.client.content(path)


@fleet.command(short_help="Make a kubeconfig for another person.")
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "viewer"]), default="viewer", show_default=True)
@click.option("--project", default="", metavar="PROJECT", help="In this project alone.")
@DATA
@OPERATORS
@KUBECONFIG
def grant(
    name: str, role: str, project: str, data: Path, operators: Endpoint, kubeconfig: Path
) -> None:
    """Make a kubeconfig for another person, with a certificate that ends after a year.

    An admin may do everything, a viewer may read everything but secrets.
    """
    from edgevirt.fleet.keys import KeyRing
    from edgevirt.fleet.operators import kubeconfig as papers
    from edgevirt.fleet.operators import roles
    from edgevirt.runtime import RealClock

    groups = {
        ("admin", False): roles.ADMINS,
        ("viewer", False): roles.VIEWERS,
        ("admin", True): f"{roles.PROJECT}{project}",
        ("viewer", True): f"{roles.PROJECT}{project}:viewers",
    }
    clock = RealClock()
    host, port = operators
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    with told():
        keys = KeyRing(_existing(data) / "keys", (), clock).keys
        user = roles.User(name, (groups[role, bool(project)],))
        papers.write_kubeconfig(
            kubeconfig,
            server,
            keys.root.pem + b"\n",
            papers.issue(keys.operators.issuer, user, clock.now()),
            user=name,
            namespace=project or "default",
        )
    click.echo(f"kubeconfig written to {kubeconfig}")
