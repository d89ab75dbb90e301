"""Manifests: objects in files, as people write them and as they are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from edgevirt.cli.session import Session, fail, reference

if TYPE_CHECKING:
    from edgevirt.client.resources import Object, ResourceType

SUFFIXES = (".yaml", ".yml", ".json")


_NO_JSON = frozenset({"binary", "timestamp", "omap", "pairs", "set"})


class _Loader(yaml.SafeLoader):
    """YAML that is JSON: a date stays the text that it is, other types are refused."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as the class above has it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] not in _NO_JSON
    }


def parse(text: str, label: str) -> list[Any]:
    """All documents of a YAML or JSON text. `label`: where it is from."""
    try:
        return list(yaml.load_all(text, _Loader))  # it is a SafeLoader
    except yaml.YAMLError as error:
        fail(f"cannot read {label}: {_where_it_breaks(error)}")


def _where_it_breaks(error: yaml.YAMLError) -> str:
    """`line 3: expected …`, without the parser's drawing of the place."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return " ".join(str(error).split())
    problem = problem.replace("<stream end>", "the end")
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def read(files: tuple[str, ...]) -> list[Object]:
    """Objects of YAML or JSON files, directories (by file name) or `-` for stdin. All of them are
    read before the first is used, so that a mistake in the last stops the first."""
    return [
        body for name in files for label, text in _texts(name) for body in _objects(text, label)
    ]


def read_some(files: tuple[str, ...]) -> list[Object]:
    """`read`, of files that must hold something."""
    found = read(files)
    if not found:
        fail(f"cannot find an object in {', '.join(files)}: all of it is empty")
    return found


def _objects(text: str, label: str) -> Iterator[Object]:
    for document in parse(text, label):
        if document is None:
            continue
        items = [document]
        if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
            items = document.get("items") or []
        for item in items:
            _check(item, label)
            yield item


def _check(body: Any, label: str) -> None:
    hint = "each needs apiVersion, kind and metadata.name"
    if not isinstance(body, dict):
        fail(f"cannot use {label}: a document in it is no object", hint)
    for field in ("apiVersion", "kind"):
        if not isinstance(body.get(field), str):
            fail(f"cannot use {label}: an object in it has no {field}", hint)
    meta = body.get("metadata")
    name = (meta.get("name") or meta.get("generateName")) if isinstance(meta, dict) else None
    if isinstance(meta, dict) and not isinstance(meta.get("name", ""), str):
        fail(
            f"cannot use {label}: metadata.name of {body['kind']} is no text, but "
            f"{json.dumps(meta['name'])}",
            "quote it: YAML reads on, off, yes, no and numbers as something else",
        )
    if not name:
        fail(
            f"cannot use {label}: there is no metadata.name in an object of kind {body['kind']}",
            hint,
        )


def _texts(name: str) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "stdin", sys.stdin.read()
        return
    path = Path(name)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not files:
            fail(f"cannot find a manifest in {name}: no {', '.join(SUFFIXES)} there")
    for file in files:
        try:
            yield str(file), file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            fail(f"cannot read {file}: {reason}")


def place(session: Session, body: Object) -> tuple[ResourceType, str | None]:
    """The type of a manifest and the namespace that it goes to."""
    type_ = session.type_of(body["kind"])
    if body["apiVersion"] != type_.api_version:
        fail(
            f"cannot use {reference(body)}: the fleet does not serve {body['apiVersion']}",
            f"its apiVersion is {type_.api_version}",
        )
    named = body["metadata"].get("namespace")
    if named and session.namespace and named != session.namespace:
        fail(f"cannot put {reference(body)} into {session.namespace}: it says namespace {named}")
    return type_, (named or session.scope(type_)) if type_.namespaced else None


def without_noise(body: Object) -> Object:
    """The object without what only the server's merging needs."""
    meta = {key: value for key, value in body.get("metadata", {}).items() if key != "managedFields"}
    return {**body, "metadata": meta} if meta else body


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, lists indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if not text.replace("\n", "").replace("\t", "").isprintable():
        style = '"'  # escaped: YAML takes some of these characters for line breaks
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def to_yaml(body: Any, *, sort: bool = False) -> str:
    return yaml.dump(body, Dumper=_Dumper, sort_keys=sort, allow_unicode=True, width=100)


def show(body: Any, form: str) -> None:
    """`form`: yaml or json."""
    click.echo(json.dumps(body, indent=2) if form == "json" else to_yaml(body).rstrip("\n"))
