"""What every verb shares: its options, how it ends when it is refused, and its question."""

from __future__ import annotations

import contextlib
import http
from collections.abc import Iterator
from typing import Any, Final

import click

from edgevirt.cli.completing import complete_namespace, complete_objects
from edgevirt.cli.session import Failure, fail, session_of, tell_failure

OBJECTS: Final = click.argument(
    "words", nargs=-1, required=True, metavar="TYPE NAME… | TYPE/NAME…",
    shell_complete=complete_objects,
)  # fmt: skip
LABELS: Final = click.option(
    "-l", "--selector", "labels", default="", help="Label selector: a=b,c in (d,e)."
)


class Verb(click.Command):
    """A command that speaks to the fleet: what the fleet refuses ends it with one sentence."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += connection_options(hidden=True)

    def invoke(self, ctx: click.Context) -> Any:
        from edgevirt.client.errors import ClientError

        try:
            with session_of(ctx):
                return super().invoke(ctx)
        except ClientError as error:
            raise Failure(str(error), error.hint) from None


class Attempts:
    """One verb on several objects: what is refused of one is told, and the others go on."""

    def __init__(self) -> None:
        self._failed = False

    @contextlib.contextmanager
    def each(self, about: str = "") -> Iterator[None]:
        """`about`: `kind/name`, said where the fleet's words do not name it."""
        from edgevirt.client.errors import Refused

        try:
            yield
        except (Refused, Failure) as error:
            if isinstance(error, Refused) and error.code == http.HTTPStatus.UNAUTHORIZED:
                raise
            why = str(error)
            named = f'"{about.rpartition("/")[2]}"' in why or about in why
            tell_failure(why if named else f"{about}: {why}", error.hint)
            self._failed = True

    def finish(self) -> None:
        """Exit status 1 when something was refused."""
        if self._failed:
            raise click.exceptions.Exit(1)


def confirm(question: str, *, yes: bool) -> None:
    """Asks before what cannot be undone. Raises Failure unless the answer is yes."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        fail("cannot go on without an answer: nothing was changed", "-y answers yes")
    if not agreed:
        fail("nothing was changed")


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    session = session_of(context)
    if value is not None:
        setattr(session, str(parameter.name), value)


def connection_options(*, hidden: bool) -> list[click.Parameter]:
    """Where the fleet is and which project is meant: before the verb, or behind it."""

    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, **more)

    return [
        option(
            "-n", "--namespace", metavar="PROJECT", help="Default: the context's.",
            shell_complete=complete_namespace,
        ),
        option("--context", metavar="NAME", help="Of the kubeconfig.", hidden=hidden),
        option(
            "--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, then ~/.kube/config.",
            hidden=hidden,
        ),
    ]  # fmt: skip
