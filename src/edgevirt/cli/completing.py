"""What the shell completes: kinds and names, asked of the fleet, or nothing when it is away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import click
from click.shell_completion import CompletionItem

from edgevirt.cli.session import ALIASES, Session, session_of

PATIENCE: Final = 1.0
"""Seconds that an answer may take, as somebody waits with a finger on the key."""

MOST: Final = 500
"""Names that are asked for."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@contextlib.contextmanager
def _fleet(context: click.Context) -> Iterator[Session]:
    """No fleet, no kubeconfig, no such kind: there is nothing to complete, and no word of it."""
    from edgevirt.client.errors import ClientError

    session = session_of(context)
    session.patience = PATIENCE
    with contextlib.suppress(ClientError, click.ClickException, OSError), session:
        yield session


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(set(words)) if word.startswith(incomplete)]


def _names(session: Session, kind: str) -> list[str]:
    type_ = session.type_of(kind)
    listed = session.client.table(type_, session.scope(type_), limit=MOST)
    return [row["object"]["metadata"]["name"] for row in listed["rows"]]


def _kinds(session: Session) -> list[str]:
    plurals = [type_.plural for type_ in session.client.types()]
    return [*plurals, *(word for word in ALIASES if word.endswith("s"))]


def complete_objects(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """`TYPE`, then names of that type; `TYPE/NAME` at any place."""
    found: list[str] = []
    with _fleet(context) as session:
        kind, slash, _ = incomplete.partition("/")
        given = context.params.get("words") or ()
        if slash:
            found = [f"{kind}/{name}" for name in _names(session, kind)]
        elif given and "/" not in given[0]:
            found = _names(session, given[0].split(",")[0])
        else:
            before, comma, _ = incomplete.rpartition(",")
            found = [before + comma + word for word in _kinds(session)]
    return _items(found, incomplete)


def complete_kind(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    found: list[str] = []
    with _fleet(context) as session:
        found = _kinds(session)
    return _items(found, incomplete)


def complete_named(kind: str) -> Complete:
    """Names of one kind."""

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[str] = []
        with _fleet(context) as session:
            found = _names(session, kind)
        return _items(found, incomplete)

    return complete


def complete_logged(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """App instances by name, nodes as `node/NAME`."""
    found: list[str] = []
    with _fleet(context) as session:
        if incomplete.startswith("node/"):
            found = [f"node/{name}" for name in _names(session, "edgenodes")]
        else:
            found = [*_names(session, "appinstances"), "node/"]
    return _items(found, incomplete)


complete_namespace = complete_named("namespaces")
