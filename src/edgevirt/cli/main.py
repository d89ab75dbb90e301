"""The table of verbs. Each is imported only when it is called, so that the door opens at once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from edgevirt import __version__
from edgevirt.cli.session import Failure, tell_failure
from edgevirt.cli.verb import connection_options

VERBS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Look": {
        "get": ("get", "Show objects as tables, or whole."),
        "describe": ("describe", "Tell all about an object."),
        "logs": ("telemetry", "Show what an app printed, or a node's services tell."),
        "events": ("describe", "Tell what happened, oldest first."),
        "console": ("consoles", "Type at the serial console of an app."),
        "vnc": ("consoles", "Show the screen of an app to a VNC viewer."),
        "top": ("telemetry", "Show what nodes or apps use of their machines."),
        "hardware": ("hardware", "Print a HardwareModel of a node's machine."),
        "explain": ("explain", "Tell what a kind's fields mean."),
        "api-resources": ("explain", "List the kinds that the fleet serves."),
        "version": ("version", "Tell the versions of this program and of the fleet."),
    },
    "Change": {
        "apply": ("change", "Make objects as manifests say."),
        "create": ("change", "Make new objects."),
        "edit": ("change", "Change an object in your editor."),
        "patch": ("change", "Change some fields of an object."),
        "diff": ("change", "Show what apply would change."),
        "delete": ("change", "Delete objects."),
    },
    "Operate": {
        "approve": ("operate", "Let machines in that ask to become nodes."),
        "deny": ("operate", "Refuse machines that ask to become nodes."),
        "restart": ("operate", "Stop app instances and start them again."),
        "purge": ("operate", "Start app instances over with empty volumes."),
        "rollback": ("rollback", "Bring app instances back to how they were before an update."),
        "reboot": ("operate", "Reboot edge nodes."),
        "overwrite": ("overwrite", "Give nodes the config that is held back."),
        "os": ("systems", "Bring nodes to a version of their software."),
        "attestation": ("attestation", "Say what nodes must prove, and see what they do."),
        "wait": ("wait", "Wait until objects are as they should be."),
    },
}
"""By section: the verb, its module, and what it does in a line."""
PROGRAMS: Final = "Run"
"""The section of what else there is: the fleet and the node themselves."""

_INTERRUPTED: Final = 130


class Door(click.Group):
    """A group whose verbs come from the table, and whose errors are one sentence and a hint."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*(name for verbs in VERBS.values() for name in verbs), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for verbs in VERBS.values():
            if cmd_name in verbs:
                module = importlib.import_module(f"edgevirt.cli.{verbs[cmd_name][0]}")
                found: click.Command = getattr(module, cmd_name.replace("-", "_"))
                return found
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if ctx.resilient_parsing:
                return None, None, args[1:]
            raise click.exceptions.NoSuchCommand(name, None, self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By section, and without importing one of them."""
        for section, verbs in VERBS.items():
            with formatter.section(section):
                formatter.write_dl([(name, summary) for name, (_, summary) in verbs.items()])
        with formatter.section(PROGRAMS):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(formatter.width))
                    for name, command in sorted(self.commands.items())
                ]
            )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, **extra)
        except click.Abort as abort:
            sys.exit(_INTERRUPTED if isinstance(abort.__cause__, KeyboardInterrupt) else 1)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            _tell(error)
        sys.exit(code if isinstance(code, int) else 0)


def _tell(error: click.ClickException) -> NoReturn:
    hint = error.hint if isinstance(error, Failure) else ""
    why = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError):
        why = why[:1].lower() + why[1:]
        hint = f"{error.ctx.command_path} --help" if error.ctx else ""
    tell_failure(why, hint)
    sys.exit(error.exit_code if isinstance(error, Failure) else 1)


@click.group(
    cls=Door,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=connection_options(hidden=False),
)
@click.version_option(__version__, prog_name="edgevirt")
def edgevirt() -> None:
    """Run apps on computers that you cannot walk up to."""


@edgevirt.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script for a shell: `source <(edgevirt completion bash)`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(edgevirt, {}, "edgevirt", "_EDGEVIRT_COMPLETE").source())
