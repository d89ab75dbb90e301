"""Writes `docs/reference/`: what the code already says, as pages. `make docs` runs it.

Nothing stands on these pages that is not read off the code, so they can be made anew at any time;
a test compares them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from edgevirt.__main__ import edgevirt
from edgevirt.cli.main import VERBS
from edgevirt.cli.schemas import Field, Schema, Schemas
from edgevirt.fleet.api.shapes import openapi
from edgevirt.fleet.device.node_api import ROUTES
from edgevirt.fleet.device.routes import PREFIX
from edgevirt.fleet.objects.kinds import KINDS, ApiKind
from edgevirt.node.agent.outcome import ACCEPTED, REASONS, delivery
from edgevirt.node.agent.properties import RULES, Rule
from edgevirt.node.services import ROWS, Row, WithVault, load, print_graph
from edgevirt.runtime import Kind

HERE: Final = Path(__file__).parent
REFERENCE: Final = HERE / "reference"
NOTE: Final = "<!-- Made by `make docs` from the code: change that. -->\n"
SHARED: Final = ("ObjectMeta", "Condition")
"""Parts that all kinds have; they get a section of their own."""

Rows = Iterable[tuple[str, ...]]


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"{NOTE}\n# {title}", *(part.strip("\n") for part in parts)]) + "\n"


def table(titles: tuple[str, ...], rows: Rows) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    return f"`{text}`" if text else ""


# -- kinds.md ----------------------------------------------------------------------------------


def kinds() -> str:
    """The operators' API: the fields of each kind, with the words of `edgevirt explain`."""
    intro = (
        "The operators' API serves these. `edgevirt explain KIND.FIELD` and `kubectl explain` show "
        "the same words. `[]` after a name: a list of such; `{}`: a map by name."
    )
    rows = (
        (
            f"[{kind.name}](#{kind.name.lower()})",
            code(kind.plural),
            " ".join(map(code, kind.short_names)),
            code(kind.api_version),
        )
        for kind in KINDS
    )
    listed = table(("kind", "plural", "short", "apiVersion"), rows)
    return page("Kinds", intro, listed, *(_kind(kind) for kind in KINDS), *_shared_parts())


def _schemas(kind: ApiKind[Any]) -> Schemas:
    root = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
    document = openapi.document(root, "")
    assert document is not None
    return Schemas(json.loads(document))


def _kind(kind: ApiKind[Any]) -> str:
    schemas = _schemas(kind)
    schema = schemas.kind(kind.api_version, kind.name)
    assert schema is not None
    notes = []
    if not kind.namespaced:
        notes.append("It has no namespace.")
    if kind.immutable:
        notes.append(f"Cannot change once set: {', '.join(map(code, kind.immutable))}.")
    if kind.selectable:
        notes.append(f"For field selectors: {', '.join(map(code, kind.selectable))}.")
    fields = table(("field", "type", ""), _fields(schemas, schema))
    parts = [f"## {kind.name}", schemas.text(schema), " ".join(notes), fields]
    return "\n\n".join(part for part in parts if part)


def _fields(schemas: Schemas, schema: Schema, path: str = "") -> Iterator[tuple[str, ...]]:
    for field in schemas.fields(schema):
        if not path and field.name in {"apiVersion", "kind", "metadata"}:
            continue
        name = f"{path}{field.name}"
        inner = field.type.removeprefix("[]").removeprefix("map[string]")
        if inner in SHARED:
            yield code(name), f"[{field.type}](#{inner.lower()})", field.text
            continue
        yield code(name), field.type, _text(field)
        mark = "[]" if field.type.startswith("[]") else "{}" if "map" in field.type else ""
        yield from _fields(schemas, field.schema, f"{name}{mark}.")


def _text(field: Field) -> str:
    return f"{field.text} *{field.notes}*" if field.notes else field.text


def _shared_parts() -> Iterator[str]:
    schemas = _schemas(KINDS[-1])
    root = schemas.kind(KINDS[-1].api_version, KINDS[-1].name)
    assert root is not None
    found = {
        field.type.removeprefix("[]"): field
        for _, field in schemas.walk(root)
        if field.type.removeprefix("[]") in SHARED
    }
    for name in SHARED:
        schema = found[name].schema
        rows = table(("field", "type", ""), _fields(schemas, schema, "."))
        yield f"## {name}\n\n{schemas.text(schema)}\n\n{rows}"


# -- cli.md ------------------------------------------------------------------------------------


def cli() -> str:
    """Every command, from click."""
    context = click.Context(edgevirt, info_name="edgevirt")
    common = table(("option", ""), _options(edgevirt, context))
    parts = [
        "Results go to stdout, everything else to stderr. Exit status: 0; 1 when something failed "
        "(one sentence and a hint say what); `diff` has 1 for «would change» and 2 for failures; "
        "130 after Ctrl-C.",
        f"These options may stand before a verb or behind it:\n\n{common}",
    ]
    for section, verbs in VERBS.items():
        parts.append(f"## {section}")
        for name in verbs:
            command = edgevirt.get_command(context, name)
            assert command is not None
            parts.extend(_commands(command, context, name))
    parts.append("## Run")
    for name, command in sorted(edgevirt.commands.items()):
        parts.extend(_commands(command, context, name))
    return page("The command line", *parts)


def _commands(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    """It, or those of a group."""
    if not isinstance(command, click.Group):
        yield _command(command, context, f"edgevirt {name}")
        return
    inner = click.Context(command, info_name=name, parent=context)
    for sub_name, sub in sorted(command.commands.items()):
        yield _command(sub, inner, f"edgevirt {name} {sub_name}")


def _command(command: click.Command, parent: click.Context, title: str) -> str:
    context = click.Context(command, info_name=title, parent=parent)
    words = [
        parameter.make_metavar(context)
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    usage = " ".join([title, "[OPTIONS]", *words])
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    rows = list(_options(command, context))
    options = table(("option", ""), rows) if rows else ""
    parts = [f"### {title}", f"    {usage}", text, options]
    return "\n\n".join(part for part in parts if part)


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, ...]]:
    own = {"namespace", "context", "kubeconfig"} if command is not edgevirt else set()
    for parameter in command.params:
        if not isinstance(parameter, click.Option):
            continue
        if parameter.name in own and not parameter.expose_value:
            continue  # told once for all
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
        notes = [parameter.help or ""]
        if parameter.required:
            notes.append("*required*")
        elif parameter.show_default and not parameter.is_flag:
            notes.append(f"*default {parameter.default}*")
        if parameter.name != "version":
            yield code(names + value), " ".join(note for note in notes if note)


# -- node-graph.md -----------------------------------------------------------------------------


def node_graph() -> str:
    """Who owns and who reads which kind on a node."""
    services = [load(row) for row in ROWS]
    readers: dict[str, list[str]] = {}
    for service in services:
        for kind in service.reads:
            readers.setdefault(kind.name, []).append(service.name)
    rows = (
        (
            code(kind.name),
            service.name,
            ", ".join(sorted(set(readers.get(kind.name, ())) - {service.name})) or "–",
            _kept(kind),
            _first_words(kind),
        )
        for service in services
        for kind in sorted(service.owns, key=lambda kind: kind.name)
    )
    return page(
        "Who owns and reads what on a node",
        "Each kind has one owner, a service of [services.md](services.md); an arrow goes from the "
        "owner of a kind to a service that reads it. `edgevirt node graph` prints the same.",
        f"```mermaid\n{print_graph(services, 'mermaid').strip()}\n```",
        "«On disk»: it is there again after a power cut. «Report»: it tells what is, not what "
        "should be, so readers do not wait for its owner's first word. «Named»: a kind that only "
        "the services listed may read, however they ask.",
        table(("kind", "owner", "readers", "", "what it is"), rows),
    )


def _kept(kind: Kind[Any]) -> str:
    marks = ["on disk"] if kind.persistent else []
    marks += ["report"] if kind.report else []
    marks += ["named"] if kind.readers is not None else []
    return ", ".join(marks)


def _first_words(kind: Kind[Any]) -> str:
    """The first sentence of what the value says of itself, without its key."""
    text = " ".join((inspect.getdoc(kind.type) or "").split())
    sentences = [part.strip() for part in text.split(". ")]
    told = [part for part in sentences if not part.startswith("Key:") and "→" not in part]
    return f"{told[0].rstrip('.')}." if told else ""


# -- properties.md -----------------------------------------------------------------------------

_TYPES: Final = {
    "i": "whole number",
    "b": "`true` or `false`",
    "t": "`none`, `enabled` or `disabled`",
    "u": "`usb`, `nousb` or empty",
    "s": "text",
}


def properties() -> str:
    """Config properties, and which services act on them."""
    used = _uses()
    rows = (
        (
            code(name),
            _TYPES[rule.kind] + _bounds(rule),
            code(rule.default),
            ", ".join(sorted(used.get(name, ()))) or "–",
        )
        for name, rule in sorted(RULES.items())
    )
    return page(
        "Config properties",
        "Set in `spec.properties` of an EdgeNode, under the names that EVE has for them "
        "(its docs/CONFIG-PROPERTIES.md). What is not set has its default; a value that is not "
        "possible leaves the one before in force, and the node's status says so. Timers are in "
        "seconds. A property without a service is accepted and reported, and has no effect yet.",
        table(("property", "type", "default", "acts on it"), rows),
    )


def _bounds(rule: Rule) -> str:
    if rule.kind != "i":
        return ""
    upper = "" if rule.most >= 2**31 else f" to {rule.most}"
    return f", {rule.least}{upper or ' or more'}"


def _uses() -> Mapping[str, set[str]]:
    """By property, the services whose code names it, outside the two tables of defaults."""
    found: dict[str, set[str]] = {}
    root = Path(importlib.import_module("edgevirt.node").__path__[0])
    for path in sorted(root.rglob("*.py")):
        if path.name == "properties.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in RULES:
                found.setdefault(str(node.value), set()).add(path.relative_to(root).parts[0])
    return found


# -- services.md -------------------------------------------------------------------------------


def services() -> str:
    """The rights of each service, from the table that the kernel holds it to."""
    return page(
        "The node's services and their rights",
        "Each is a process of its own. What is not in its row it does not have.",
        table(
            ("service", "does"),
            ((code(row.name), _does(row)) for row in ROWS),
        ),
        table(
            (
                "service",
                "user",
                "groups",
                "capabilities",
                "network",
                "system calls",
                "memory",
                "vault",
            ),
            map(_rights, ROWS),
        ),
        "System calls: a class of "
        "[host/rights/seccomp.py](../../src/edgevirt/host/rights/seccomp.py); «closed» "
        "starts no programs, «spawning» does, «mounting» makes mounts and namespaces too, "
        "«runtime» is what containers run under. Network: in the node's network namespace, or in "
        "an empty one. Memory: the bound of its control group, in MiB. Vault: a service that waits "
        "is started when the vault is open; one that starts anew at once, and once more then.",
        table(("service", "reads", "writes"), map(_files, ROWS)),
        "Files: where the kernel has Landlock a service reaches these directories of the node and "
        "no others, besides the system's programs and libraries; elsewhere what its user may.",
    )


def _does(row: Row) -> str:
    text = inspect.getdoc(importlib.import_module(row.module)) or ""
    text = text.removeprefix(f"{row.name}: ")
    return text[:1].upper() + text[1:]


def _rights(row: Row) -> tuple[str, ...]:
    return (
        code(row.name),
        "root" if row.uid == 0 else str(row.uid),
        ", ".join(row.groups) or "–",
        _capabilities(row.capabilities),
        "yes" if row.network else "none",
        row.profile.value,
        str(row.memory >> 20),
        "–" if row.vault is WithVault.NOTHING else row.vault.value,
    )


def _capabilities(names: frozenset[str]) -> str:
    if len(names) > 12:
        return f"{len(names)}: all but those over the machine itself"
    return ", ".join(sorted(names)) or "none"


def _files(row: Row) -> tuple[str, ...]:
    def listed(names: tuple[str, ...] | None) -> str:
        return "what its user may" if names is None else ", ".join(map(code, names)) or "–"

    return code(row.name), listed(row.reads), listed(row.writes)


# -- nodes-api.md ------------------------------------------------------------------------------


def nodes_api() -> str:
    """The nodes' API: its routes, and what a node makes of the answers."""
    routes = (
        (route.method.decode(), code(route.path), route.sender.value, f"{route.limit >> 10} KiB")
        for route in ROUTES
    )
    answers = (
        (str(status), REASONS.get(status, "accepted"), delivery(status).value)
        for status in sorted({*ACCEPTED, *REASONS})
    )
    return page(
        "The nodes' API",
        f"EVE API v2, below `{PREFIX.decode()}`. Bodies are protobuf messages in an "
        "`AuthContainer` signed by the sender (log bundles: gzip in one). A report is on disk when "
        "it is acknowledged.",
        table(("method", "path", "signed with", "body at most"), routes),
        "## What the node makes of an answer",
        "The last column is for a queued report: «done», «drop» since it can never be accepted, or "
        "«later».",
        table(("status", "in words", "report"), answers),
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "kinds.md": kinds,
    "cli.md": cli,
    "node-graph.md": node_graph,
    "services.md": services,
    "properties.md": properties,
    "nodes-api.md": nodes_api,
}


def main(directory: Path = REFERENCE) -> None:
    directory.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = directory / name, make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"written: {path}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
