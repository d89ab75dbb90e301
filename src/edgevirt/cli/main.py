"""The table of verbs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgevirt import __version__
from edgevirt.cli import read, telemetry, write
from edgevirt.cli.session import Session, fail

VERBS = (
    read.get,
    read.describe,
    read.events,
    read.explain,
    read.api_resources,
    read.wait,
    write.apply,
    write.create,
    write.patch,
    write.edit,
    write.delete,
    write.diff,
    write.approve,
    write.restart,
    write.purge,
    write.reboot,
    telemetry.logs,
    telemetry.top,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgevirt")
@click.option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, then ~/.kube/config.")
@click.option("--context", "named", metavar="NAME", help="A context of the kubeconfig.")
@click.option("-n", "--namespace", metavar="PROJECT", help="Default: the context's.")
@click.pass_context
def edgevirt(
    context: click.Context, /, kubeconfig: str | None, named: str | None, namespace: str | None
) -> None:
    """Run apps on computers that you cannot walk up to."""
    context.obj = Session(kubeconfig, named, namespace)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: `source <(edgevirt completion bash)`."""
    found = get_completion_class(shell)
    if found is None:
        fail(f"cannot complete for {shell}")
        return
    click.echo(found(edgevirt, {}, "edgevirt", "_EDGEVIRT_COMPLETE").source())


for command in (*VERBS, completion):
    edgevirt.add_command(command)
