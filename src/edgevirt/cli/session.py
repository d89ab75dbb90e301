"""What every verb shares: the connection, the namespace, how output and errors look."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import yaml
from rich.console import Console
from rich.table import Table

from edgevirt.client import (
    Client,
    ClientError,
    Object,
    ResourceType,
    kubeconfig_path,
    load_connection,
)

F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False, soft_wrap=True)
"""Results. Errors go to stderr through click."""


@dataclass
class Session:
    """One run of the command: connects when a verb first needs the fleet."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None

    @functools.cached_property
    def client(self) -> Client:
        path = kubeconfig_path(self.kubeconfig)
        return Client(load_connection(path, self.context))

    def scope(self, type_: ResourceType, all_namespaces: bool = False) -> str | None:
        """The namespace to ask in; None for kinds without one, or for all of them."""
        if not type_.namespaced or all_namespaces:
            return None
        return self.namespace or self.client.namespace

    def target(self, words: tuple[str, ...]) -> tuple[ResourceType, tuple[str, ...]]:
        """`TYPE`, `TYPE NAME…` or `TYPE/NAME` → the type and the names."""
        if not words:
            raise ClientError(
                "cannot tell what to act on: no TYPE given", "try `edgevirt get nodes`"
            )
        if "/" in words[0]:
            pairs = [word.split("/", 1) for word in words]
            if any(len(pair) != 2 or pair[0] != pairs[0][0] for pair in pairs):
                raise ClientError(
                    "cannot mix TYPE/NAME of different types", "one type for each command"
                )
            return self.client.type_of(pairs[0][0]), tuple(pair[1] for pair in pairs)
        return self.client.type_of(words[0]), words[1:]

    def one(self, words: tuple[str, ...]) -> tuple[ResourceType, str]:
        type_, names = self.target(words)
        if len(names) != 1:
            raise ClientError(f"cannot act on {len(names)} names: give one", "TYPE/NAME")
        return type_, names[0]


def verb(function: F) -> F:
    """Turns what the client refuses into one sentence, a hint, and exit status 1."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ClientError as error:
            fail(str(error), error.hint)

    return wrapped  # type: ignore[return-value]


def fail(why: str, hint: str = "") -> None:
    click.secho(f"edgevirt: {why}", err=True, fg="red")
    if hint:
        click.echo(f"  hint: {hint}", err=True)
    sys.exit(1)


def read_manifests(files: tuple[str, ...]) -> Iterator[Object]:
    """Objects of YAML or JSON files, directories (by file name) or `-` for stdin."""
    for name in files:
        for label, text in _texts(name):
            try:
                documents = list(yaml.safe_load_all(text))
            except yaml.YAMLError as error:
                raise ClientError(f"cannot read {label}: {error}") from None
            for document in documents:
                if document is None:
                    continue
                if not isinstance(document, dict) or "kind" not in document:
                    raise ClientError(
                        f"cannot use {label}: a document in it is no object",
                        "each needs apiVersion, kind and metadata.name",
                    )
                if document["kind"] == "List":
                    yield from document.get("items", ())
                else:
                    yield document


def _texts(name: str) -> Iterator[tuple[str, str]]:
    from pathlib import Path

    if name == "-":
        yield "stdin", sys.stdin.read()
        return
    path = Path(name)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in {".yaml", ".yml", ".json"})
        if not found:
            raise ClientError(f"cannot find a manifest in {name}: no .yaml, .yml or .json there")
    elif path.exists():
        found = [path]
    else:
        raise ClientError(f"cannot read {name}: there is no such file")
    for file in found:
        yield str(file), file.read_text()


def show_table(table: Object, *, wide: bool, with_namespace: bool, header: bool = True) -> None:
    """A meta.k8s.io/v1 Table, as the server made it."""
    columns = [
        (index, column["name"])
        for index, column in enumerate(table["columnDefinitions"])
        if wide or not column.get("priority")
    ]
    grid = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    if with_namespace:
        grid.add_column("NAMESPACE", no_wrap=True)
    for _, name in columns:
        grid.add_column(name.upper(), no_wrap=True)
    for row in table["rows"]:
        cells = [_cell(row["cells"][index]) for index, _ in columns]
        if with_namespace:
            cells.insert(0, row["object"]["metadata"].get("namespace", ""))
        grid.add_row(*cells)
    out.print(grid)


def _cell(value: object) -> str:
    return "<none>" if value is None or value == "" else str(value)


def show_object(body: Object, form: str) -> None:
    """`form`: yaml or json."""
    if form == "json":
        click.echo(json.dumps(body, indent=2))
    else:
        click.echo(yaml.safe_dump(body, sort_keys=False), nl=False)


def reference(body: Object) -> str:
    """`kind/name`, as kubectl prints it."""
    group = body["apiVersion"].split("/")[0] if "/" in body["apiVersion"] else ""
    kind = body["kind"].lower() + (f".{group}" if group else "")
    return f"{kind}/{body['metadata']['name']}"
