"""The software of nodes: make versions of it known, bring nodes to one, see how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.operate import NODES, YES, own_name, raise_counters
from edgevirt.cli.session import Session, fail, tell_failure
from edgevirt.cli.verb import Attempts, Verb, confirm
from edgevirt.cli.wait import Duration

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

MANIFEST = click.option(
    "--manifest", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="What the image builder wrote: build/image/…/manifest.json.",
)  # fmt: skip
_WAIT = click.option("--wait", is_flag=True, help="Wait until they run it, and tell each step.")
_TIMEOUT = click.option("--timeout", type=Duration(), default="1h", show_default=True)
_DONE: Final = "Updated"
_FAILED: Final = frozenset({"Failed", "FellBack"})
_PATIENCE: Final = 30.0
"""Seconds that one watch lasts at most."""


@click.group(short_help="Bring nodes to a version of their software.")
def os() -> None:
    """Bring nodes to a version of their software."""


@os.command(cls=Verb)
@click.argument("name")
@MANIFEST
@click.option("--datastore", "datastores", multiple=True, required=True, metavar="DATASTORE",
              help="Where the root image was put; may be repeated.",
              shell_complete=complete_named("datastores"))  # fmt: skip
@click.option("--reference", default="", metavar="PATH",
              help="Of the root image there; default: its file's name.")  # fmt: skip
@click.pass_obj
def create(
    session: Session, name: str, manifest: Path, datastores: tuple[str, ...], reference: str
) -> None:
    """Make an OSImage from a build, with what measuring it comes to."""
    from edgevirt.cli.builds import read_build

    build = read_build(manifest)
    type_ = session.type_of("osimages")
    body: Object = {
        "apiVersion": type_.api_version,
        "kind": type_.kind,
        "metadata": {"name": name},
        "spec": {
            "version": build.version,
            "architecture": build.architecture,
            "datastoreRefs": [{"name": datastore} for datastore in datastores],
            "reference": reference or build.file,
            "sha256": build.sha256,
            "maxSize": build.size,
            "measurements": build.measurements,
        },
    }
    made = session.client.create(type_, session.scope(type_), body)
    measured = ", ".join(sorted(build.measurements, key=int)) or "none"
    name = f"{type_.singular}/{made['metadata']['name']}"
    click.echo(f"{name} created: version {build.version}, measured registers: {measured}")


@os.command(cls=Verb)
@NODES
@click.option("--to", "image", required=True, metavar="OSIMAGE",
              shell_complete=complete_named("osimages"))  # fmt: skip
@click.option("--stage", is_flag=True, help="Fetch and verify it only; boot into it later.")
@_WAIT
@_TIMEOUT
@click.pass_obj
def update(
    session: Session, names: tuple[str, ...], image: str, stage: bool, wait: bool, timeout: float
) -> None:
    """Bring nodes to a version; each falls back by itself if it does not work there."""
    version = _version_of(session, image)
    attempts, type_ = Attempts(), session.type_of("edgenodes")
    asked: list[str] = []
    for name in names:
        with attempts.each():
            own = own_name(session, type_, name)
            change: Object = {"spec": {"os": {"image": image, "activate": not stage}}}
            session.client.patch(type_, session.scope(type_), own, change, style="merge")
            asked.append(own)
            click.echo(f"{type_.singular}/{own}: {'stages' if stage else 'updates to'} {version}")
    if wait:
        goal = "Staged" if stage else _DONE
        _Following(session, version, goal, dict.fromkeys(asked, "")).until(timeout)
    attempts.finish()


@os.command(cls=Verb)
@NODES
@_WAIT
@_TIMEOUT
@click.pass_obj
def retry(session: Session, names: tuple[str, ...], wait: bool, timeout: float) -> None:
    """Let nodes try a version again that they fell back from."""
    before = {name: _status(_node(session, name)) for name in names}
    raise_counters(session, "edgenodes", names, "os.retryCounter", "another try")
    if wait:
        versions = {status.get("version", "") for status in before.values()}
        since = {name: status.get("since", "") for name, status in before.items()}
        if len(versions) > 1:
            fail("cannot wait for different versions at once", "wait for each by itself")
        _Following(session, versions.pop(), _DONE, since).until(timeout)


@os.command(cls=Verb)
@NODES
@YES
@click.pass_obj
def fallback(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Make nodes go back to the version in their other slot."""
    confirm(f"let {', '.join(names)} go back? Their apps stop meanwhile.", yes=yes)
    raise_counters(session, "edgenodes", names, "os.fallbackCounter", "going back")


def _version_of(session: Session, image: str) -> str:
    type_ = session.type_of("osimages")
    body = session.client.get(type_, session.scope(type_), image)
    return str(body["spec"]["version"])


def _node(session: Session, name: str) -> Object:
    type_ = session.type_of("edgenodes")
    return session.client.get(type_, session.scope(type_), own_name(session, type_, name))


def _status(body: Object) -> Object:
    found: Object = (body.get("status") or {}).get("os") or {}
    return found


class _Following:
    """Tells each step of some nodes until all are at `goal`. `since`: by node, of a failure that
    is old news; empty: any failure of this version counts.
    """

    def __init__(self, session: Session, version: str, goal: str, since: dict[str, str]) -> None:
        self._session = session
        self._version = version
        self._goal = goal
        self._old = since
        self._left = set(since)
        self._told: dict[str, str] = {}
        self._failed: set[str] = set()
        self._width = max(map(len, since), default=0)

    def until(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._left:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                names = ", ".join(sorted(self._left))
                fail(f"cannot wait longer for {names}", "edgevirt get nodes -o wide")
            self._look(min(seconds, _PATIENCE))
        if self._failed:
            raise click.exceptions.Exit(1)

    def _look(self, seconds: float) -> None:
        """At what is, then at what comes."""
        client, type_ = self._session.client, self._session.type_of("edgenodes")
        scope = self._session.scope(type_)
        listed = client.list(type_, scope)
        self._take(listed["items"])
        if not self._left:
            return
        since = listed["metadata"]["resourceVersion"]
        for event in client.watch(type_, scope, since=since, timeout=seconds):
            if event["type"] in {"ADDED", "MODIFIED"}:
                self._take([event["object"]])
            if not self._left:
                return

    def _take(self, bodies: Iterable[Object]) -> None:
        for body in bodies:
            name = body["metadata"]["name"]
            status = _status(body)
            if name in self._left and status.get("version") == self._version:
                self._tell(name, status)

    def _tell(self, name: str, status: Object) -> None:
        step, phase = status.get("step", ""), str(status.get("phase", ""))
        if step in _FAILED and status.get("since") == self._old[name]:
            return
        if self._told.get(name) != phase:
            self._told[name] = phase
            if step in _FAILED:
                tell_failure(f"{name}: {phase}", f"edgevirt os retry {name}")
            else:
                click.echo(f"  {name:<{self._width}}  {phase}")
        if step == self._goal or step in _FAILED:
            self._left.discard(name)
            self._failed |= {name} if step in _FAILED else set()
