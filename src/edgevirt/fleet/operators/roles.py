"""Who may use the operators' API, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

ADMINS = "edgevirt:admins"
"""May do everything."""
VIEWERS = "edgevirt:viewers"
"""May read everything but secrets."""
PROJECT = "edgevirt:project:"
"""`edgevirt:project:NAMESPACE` may do all in a namespace; with `:viewers` at its end, read."""
AUTHENTICATED = "system:authenticated"

READ = frozenset({"get", "list", "watch"})
SELF_REVIEWS = {
    "selfsubjectaccessreviews": "authorization.k8s.io",
    "selfsubjectrulesreviews": "authorization.k8s.io",
    "selfsubjectreviews": "authentication.k8s.io",
}
"""Resources that every user may create, with their groups."""


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """What somebody wants to do. `namespace` empty: in all, or of a kind that has none."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Rule:
    """What a role allows, for `kubectl auth can-i --list`."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]


class Access(Protocol):
    def authenticate(self, authorization: str | None, certificate: bytes | None) -> User | None:
        """From the header `Authorization` or the peer's certificate in DER, which TLS verified."""
        ...

    def allows(self, user: User, action: Action) -> bool: ...

    def rules(self, user: User, namespace: str) -> list[Rule]: ...


class Roles:
    """What each group may do. Pure."""

    def allows(self, user: User, action: Action) -> bool:
        if action.resource in SELF_REVIEWS:
            return action.verb == "create"
        return any(_group_allows(group, action) for group in user.groups)

    def rules(self, user: User, namespace: str) -> list[Rule]:
        found = [Rule(("create",), (its,), (resource,)) for resource, its in SELF_REVIEWS.items()]
        reads = tuple(sorted(READ))
        for group in user.groups:
            if group in (ADMINS, f"{PROJECT}{namespace}"):
                found.append(Rule(("*",), ("*",), ("*",)))
            elif group in (VIEWERS, f"{PROJECT}{namespace}:viewers"):
                found.append(Rule(reads, ("edgevirt.io", "events.k8s.io"), ("*",)))
                found.append(Rule(reads, ("",), ("events", "namespaces")))
        return found


def _group_allows(group: str, action: Action) -> bool:
    if group == ADMINS:
        return True
    harmless = action.verb in READ and action.resource != "secrets"
    if group == VIEWERS:
        return harmless
    if not group.startswith(PROJECT):
        return False
    namespace, _, role = group.removeprefix(PROJECT).partition(":")
    if action.resource == "namespaces":
        return action.verb == "get" and action.name == namespace
    if not namespace or action.namespace != namespace:
        return False
    return harmless if role == "viewers" else role == ""
