"""wait: for scripts, until objects are as they should be."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

import click

from edgevirt.cli import jsonpath
from edgevirt.cli.session import Session, awaited, fail
from edgevirt.cli.verb import LABELS, OBJECTS, Verb

if TYPE_CHECKING:
    from edgevirt.client.resources import Object, ResourceType

_HINT: Final = "condition=Ready, delete, create, or jsonpath='{.status.state}'=RUNNING"
_GONE: Final = 410
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd]?)")
_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Holds = Callable[["Object | None"], bool]
"""Whether an object, or its absence, is what is waited for."""


class Duration(click.ParamType[float]):
    """`30`, `30s`, `1h30m`: seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        parts = list(_PART.finditer(text))
        if not text or "".join(part[0] for part in parts) != text:
            self.fail(f"{text!r} is no duration such as 30s, 5m or 1h30m", param, ctx)
        return sum(float(part[1]) * _UNITS[part[2]] for part in parts)


@click.command(cls=Verb)
@OBJECTS
@click.option("--for", "wanted", required=True,
              metavar="condition=NAME[=VALUE]|delete|create|jsonpath=PATH[=VALUE]")  # fmt: skip
@LABELS
@click.option("--timeout", type=Duration(), default="30s", show_default=True)
@click.pass_obj
def wait(
    session: Session, words: tuple[str, ...], wanted: str, labels: str, timeout: float
) -> None:
    """Wait until objects have a condition or a value, are there, or are gone.

    A condition counts only when it was seen of the object's present spec. What is going on
    meanwhile is told on stderr.
    """
    holds = _parse(wanted)
    deadline = time.monotonic() + timeout
    for type_, scope, name in session.objects(words, labels):
        _Wait(session, type_, scope, name, wanted).until(holds, deadline)
        click.echo(f"{type_.singular}/{name}: {_met(wanted)}")


def _met(wanted: str) -> str:
    return {"delete": "deleted", "create": "created"}.get(wanted, "condition met")


@dataclass(frozen=True)
class _Wait:
    session: Session
    type: ResourceType
    scope: str | None
    name: str
    wanted: str
    told: list[str] = field(default_factory=list)
    """What was said of the object, each once in a row."""

    def until(self, holds: Holds, deadline: float) -> None:
        """Asks once at least, however short the time is."""
        while not self._look(holds, deadline - time.monotonic()):
            if time.monotonic() >= deadline:
                self._give_up()

    def _give_up(self) -> NoReturn:
        about = f"{self.type.singular}/{self.name}"
        why = f"cannot wait longer for {about}: {self.wanted} did not come"
        if self.told:
            why += f"; last: {self.told[-1]}"
        fail(why, f"edgevirt describe {about}")

    def _tell(self, body: Object | None) -> None:
        now = _in_words(body, self.wanted) if body is not None else ""
        if now and now not in self.told[-1:]:
            self.told.append(now)
            click.echo(f"  {self.name}  {now}", err=True)

    def _look(self, holds: Holds, seconds: float) -> bool:
        """At what is, then at what comes until the watch ends."""
        from edgevirt.client.errors import Refused

        client, field = self.session.client, f"metadata.name={self.name}"
        listed = client.list(self.type, self.scope, fields=field)
        present = next(iter(listed["items"]), None)
        if holds(present):
            return True
        self._tell(present)
        if present is None and self.wanted != "create":
            client.get(self.type, self.scope, self.name)  # it says that there is none
        if seconds <= 0:
            return False
        since = listed["metadata"]["resourceVersion"]
        try:
            for event in client.watch(
                self.type, self.scope, fields=field, since=since, timeout=seconds
            ):
                if event["type"] == "BOOKMARK":
                    continue
                body = None if event["type"] == "DELETED" else event["object"]
                if holds(body):
                    return True
                self._tell(body)
        except Refused as refused:
            if refused.code != _GONE:
                raise
        return False


def _in_words(body: Object, wanted: str) -> str:
    """The state and what the fleet says of it; or what it says of the condition that is waited
    for. Empty: nothing yet."""
    if body["metadata"].get("deletionTimestamp"):
        waits = awaited(body)
        return f"being deleted; waits for {waits}" if waits else "being deleted"
    status = body.get("status") or {}
    conditions = {c["type"].lower(): c for c in status.get("conditions", ())}
    how, _, rest = wanted.partition("=")
    name = rest.partition("=")[0].lower()
    condition = conditions.get(name) or conditions.get("ready") or {}
    state = status.get("state") or status.get("phase") or ""
    words = condition.get("message") or status.get("what") or condition.get("reason") or ""
    if how == "condition" and conditions and name not in conditions:
        there = ", ".join(c["type"] for c in conditions.values())
        words += f"; there is no condition {rest.partition('=')[0]} yet, but {there}"
    return "  ".join(filter(None, (state, words.lstrip("; "))))


def _parse(wanted: str) -> Holds:
    if wanted == "delete":
        return lambda body: body is None
    if wanted == "create":
        return lambda body: body is not None
    how, _, rest = wanted.partition("=")
    if how == "condition" and rest:
        name, _, status = rest.partition("=")
        return lambda body: body is not None and _has_condition(body, name, status or "True")
    if how == "jsonpath" and rest:
        path, value = _split_path(rest)
        return lambda body: body is not None and _has_value(body, path, value)
    fail(f"cannot wait for {wanted!r}", _HINT)


def _split_path(rest: str) -> tuple[str, str | None]:
    """`{.a.b}=value` → the path and the value; None: any."""
    braced = re.fullmatch(r"\{([^}]*)\}(?:=(.*))?", rest, re.DOTALL)
    if braced:
        return braced[1], braced[2]
    path, equals, value = rest.partition("=")
    return path, value if equals else None


def _has_value(body: Object, path: str, value: str | None) -> bool:
    found = jsonpath.find(path, body)
    if value is None:
        return bool(found)
    return any(jsonpath.text(inner) == value for inner in found)


def _has_condition(body: Object, name: str, value: str) -> bool:
    status = body.get("status") or {}
    generation = body["metadata"].get("generation", 0)
    for condition in status.get("conditions", ()):
        if condition["type"].lower() == name.lower():
            seen = condition.get("observedGeneration", status.get("observedGeneration"))
            fresh = seen is None or int(seen) >= int(generation)
            return fresh and str(condition["status"]).lower() == value.lower()
    return False
