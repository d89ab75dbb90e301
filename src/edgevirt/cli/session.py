"""One run of the command: the connection, the project, the words for objects, how errors look."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from edgevirt.client.client import Client
    from edgevirt.client.resources import Object, ResourceType

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "node": "edgenodes",
        "nodes": "edgenodes",
        "instance": "appinstances",
        "instances": "appinstances",
        "request": "enrollmentrequests",
        "requests": "enrollmentrequests",
        "network": "networkinstances",
        "networks": "networkinstances",
        "policy": "attestationpolicies",
        "policies": "attestationpolicies",
        "project": "namespaces",
        "projects": "namespaces",
    }
)
"""Words that people say for kinds, besides those that the fleet itself tells."""
_KUBERNETES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "po": "instances",
        "pod": "instances",
        "pods": "instances",
        "deploy": "instances; there are no Deployments yet",
        "deployment": "instances; there are no Deployments yet",
        "deployments": "instances; there are no Deployments yet",
        "pv": "volumes",
        "pvc": "volumes",
        "persistentvolumeclaims": "volumes",
        "all": "several kinds at once: nodes,instances,apps",
    }
)
"""Kubernetes' words for what is called otherwise here."""
_IN_USE: Final = "edgevirt.io/in-use"
"""The fleet's finalizer of what is still used."""


class Failure(click.ClickException):
    """«cannot X: why», and a hint on what to do. `code`: the exit status."""

    def __init__(self, why: str, hint: str = "", code: int = 1) -> None:
        super().__init__(why)
        self.hint = hint
        self.exit_code = code  # type: ignore[misc]  # click has it per class; diff needs another


def fail(why: str, hint: str = "") -> NoReturn:
    raise Failure(why, hint)


def tell_failure(why: str, hint: str = "") -> None:
    """On stderr, where results never go."""
    click.secho(f"edgevirt: {why}", err=True, fg="red")
    if hint:
        click.echo(f"  hint: {hint}", err=True)


@dataclass(frozen=True)
class Target:
    """A kind, and the objects of it that are meant; no names: all."""

    type: ResourceType
    names: tuple[str, ...] = ()


@dataclass
class Session:
    """One run of the command: connects when a verb first needs the fleet.

    `patience`: seconds that an answer may take; None: as long as the client waits by itself.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    patience: float | None = None

    @functools.cached_property
    def client(self) -> Client:
        import httpx

        from edgevirt.client.client import TIMEOUT, Client
        from edgevirt.client.kubeconfig import kubeconfig_paths, load_connection

        connection = load_connection(*kubeconfig_paths(self.kubeconfig), context=self.context)
        timeout = TIMEOUT if self.patience is None else httpx.Timeout(self.patience)
        return Client(connection, timeout=timeout, warn=_warn)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in self.__dict__:
            self.__dict__.pop("client").close()

    def scope(self, type_: ResourceType, all_namespaces: bool = False) -> str | None:
        """The namespace to ask in; None for kinds without one, or for all of them."""
        if not type_.namespaced or all_namespaces:
            return None
        return self.project

    @property
    def project(self) -> str:
        return self.namespace or self.client.namespace

    # -- words --

    def type_of(self, word: str) -> ResourceType:
        """By any word for a kind. Raises Failure, which names those that come near."""
        for found in self.client.types():
            if found.answers_to(ALIASES.get(word.lower(), word)):
                return found
        known = [word for type_ in self.client.types() for word in (*type_.words, *ALIASES)]
        near = difflib.get_close_matches(word.lower(), known, 1)
        plurals = ", ".join(sorted(type_.plural for type_ in self.client.types()))
        hint = f"did you mean {near[0]}?" if near else f"there are {plurals}"
        if word.lower() in _KUBERNETES:
            hint = f"here it is {_KUBERNETES[word.lower()]}"
        fail(f"cannot find a kind called {word!r}", hint)

    def targets(self, words: Sequence[str]) -> list[Target]:
        """From `TYPE[,TYPE…] [NAME…]`, or `TYPE/NAME…` of any types."""
        if not words:
            fail("cannot tell what is meant: no TYPE given", "such as nodes, or app/hello")
        if "" in words:
            fail("cannot use '' as a name", "is a variable of your script empty?")
        if not any("/" in word for word in words):
            kinds = [word for word in words[0].split(",") if word]
            return [Target(self.type_of(kind), tuple(words[1:])) for kind in kinds]
        found: dict[ResourceType, list[str]] = {}
        for word in words:
            kind, slash, name = word.partition("/")
            if not (slash and kind and name) or "/" in name:
                fail(f"cannot tell what {word!r} is among TYPE/NAME", "give each as TYPE/NAME")
            found.setdefault(self.type_of(kind), []).append(name)
        return [Target(type_, tuple(names)) for type_, names in found.items()]

    def one(self, words: Sequence[str]) -> tuple[ResourceType, str]:
        """The only object that the words name."""
        targets = self.targets(words)
        names = [name for target in targets for name in target.names]
        if len(targets) != 1 or len(names) != 1:
            fail(f"cannot tell which one is meant: {len(names)} names given", "TYPE/NAME")
        return targets[0].type, names[0]

    def objects(
        self, words: Sequence[str], labels: str = ""
    ) -> Iterator[tuple[ResourceType, str | None, str]]:
        """(type, namespace, name) of each that is meant, by name or by label selector."""
        for target in self.targets(words):
            scope = self.scope(target.type)
            names: Sequence[str] = target.names
            if labels and names:
                fail("cannot take names and a selector together", "give one of them")
            if labels:
                listed = self.client.list(target.type, scope, labels=labels)["items"]
                names = [body["metadata"]["name"] for body in listed]
            elif not names:
                fail(f"cannot tell which {target.type.plural} are meant", "TYPE/NAME, or -l")
            for name in names:
                yield target.type, scope, name


def session_of(context: click.Context) -> Session:
    """Made by whoever asks first, options of the command line or the shell's completion."""
    return context.find_root().ensure_object(Session)


def reference(body: Object) -> str:
    """`kind/name`, as people type it."""
    meta = body["metadata"]
    return f"{body['kind'].lower()}/{meta.get('name') or meta['generateName'] + '…'}"


def awaited(body: Object) -> str:
    """What an object that is being deleted waits for, in words; empty: nothing."""
    finalizers = body["metadata"].get("finalizers") or ()
    words = ("what uses it to go" if name == _IN_USE else name for name in finalizers)
    return ", ".join(words)


def _warn(text: str) -> None:
    click.secho(f"edgevirt: warning: {text}", err=True, fg="yellow")
