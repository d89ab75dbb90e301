"""The only wiring: one command, `edgevirt`, for operators, the fleet and the node."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and sys.argv[1:] == ["node", "boot"]:
    # process 1 of a machine needs none of the command line's parts, and each costs time
    from edgevirt.node.boot import main as boot

    boot()

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.main import edgevirt as edgevirt  # the programs join its verbs
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Verb
from edgevirt.image.commands import image
from edgevirt.image.eci.commands import eci

if TYPE_CHECKING:
    from edgevirt.fleet.process import Settings

Endpoint = tuple[str, int]


class HostPort(click.ParamType[Endpoint]):
    """`HOST:PORT`; an IPv6 address in brackets."""

    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Endpoint:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            self.fail(f"{str(value)!r} is not HOST:PORT", param, ctx)
        return host.strip("[]"), int(port)


class PortPair(click.ParamType[tuple[int, int]]):
    """`PORT:PORT`."""

    name = "port:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        outer, _, inner = str(value).partition(":")
        if not all(port.isdecimal() and 0 < int(port) <= 0xFFFF for port in (outer, inner)):
            self.fail(f"{str(value)!r} is not PORT:PORT", param, ctx)
        return int(outer), int(inner)


def _in_a_directory(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    if not value.parent.is_dir():
        raise click.BadParameter(f"there is no directory {value.parent}", ctx, param)
    return value


DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/edgevirt/fleet"),
    show_default=True,
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


edgevirt.add_command(eci)

# -- the fleet --


@edgevirt.group(short_help="The controller: set up, serve, let people and nodes in.")
def fleet() -> None:
    """The controller."""


def _settings(data: Path, nodes: Endpoint, operators: Endpoint, sans: tuple[str, ...]) -> Settings:
    from edgevirt.fleet.process import Settings

    return Settings(data=data, nodes=nodes, operators=operators, names=sans)


@contextlib.contextmanager
def _told(hint: str = "") -> Iterator[None]:
    """What the machine or the directory refuses, as one sentence; a bug keeps its traceback."""
    from edgevirt.fleet.keys import KeysError
    from edgevirt.fleet.process import InUse

    try:
        yield
    except (KeysError, InUse) as error:
        fail(str(error), hint)
    except OSError as error:
        fail(_sentence(error), hint)
    except BaseExceptionGroup as group:
        refused, rest = group.split(OSError)
        if rest is not None or refused is None:
            raise
        fail(_sentence(_first(refused)), hint)


def _first(group: BaseExceptionGroup[BaseException]) -> OSError:
    inner = group.exceptions[0]
    if isinstance(inner, BaseExceptionGroup):
        return _first(inner)
    assert isinstance(inner, OSError)
    return inner


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"cannot go on: {where}{error.strerror or error}"


def _existing(data: Path) -> Path:
    if not (data / "keys").is_dir():
        fail(
            f"cannot find a fleet in {data}",
            "name its directory with --data; `fleet init` makes one",
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

    with _told():
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

    with _told():
        process.run(_settings(data, nodes, operators, sans))


@fleet.command(short_help="Make a new certificate.")
@click.argument(
    "role", type=click.Choice(["signing", "encryption", "tls"]), metavar="signing|encryption|tls"
)
@DATA
def rotate(role: str, data: Path) -> None:
    """Make a new certificate; a running fleet takes it up, and so do its nodes."""
    from edgevirt.fleet import process

    with _told():
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

    with _told("stop it first"):
        nodes = process.note_restored(process.Settings(_existing(data)))
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
    from edgevirt.fleet.bootstrap import FILE

    content = _bootstrap(session, node_name) if node_name else b""
    with _told():
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
    with _told():
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
    from edgevirt.fleet import access
    from edgevirt.fleet.keys import KeyRing
    from edgevirt.runtime import RealClock

    groups = {
        ("admin", False): access.ADMINS,
        ("viewer", False): access.VIEWERS,
        ("admin", True): f"{access.PROJECT}{project}",
        ("viewer", True): f"{access.PROJECT}{project}:viewers",
    }
    clock = RealClock()
    host, port = operators
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    with _told():
        keys = KeyRing(_existing(data) / "keys", (), clock).keys
        user = access.User(name, (groups[role, bool(project)],))
        access.write_kubeconfig(
            kubeconfig,
            server,
            keys.root.pem + b"\n",
            access.issue(keys.operators.issuer, user, clock.now()),
            user=name,
            namespace=project or "default",
        )
    click.echo(f"kubeconfig written to {kubeconfig}")


# -- the node --


@edgevirt.group(short_help="The edge node: run one, look into it.")
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


# -- the image --


def _service_users() -> tuple[tuple[str, int], ...]:
    from edgevirt.node.services import ROWS

    return tuple((row.name, row.uid) for row in ROWS)


edgevirt.add_command(image)
image.context_settings["obj"] = _service_users


def main() -> None:
    edgevirt(prog_name="edgevirt")


if __name__ == "__main__":
    main()
