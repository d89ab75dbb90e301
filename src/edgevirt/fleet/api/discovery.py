"""What the API serves, told to clients: groups, versions, resources and their verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.objects.kinds import GROUP, SERVED, ApiKind

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS = ("get", "patch", "update")


@dataclass(frozen=True)
class Served:
    """A resource as clients see it. `subresources`: name → (kind, verbs)."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, tuple[str, ...]]] | None = None

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


REVIEWS = (
    Served("authentication.k8s.io", "v1", "selfsubjectreviews", "selfsubjectreview",
           "SelfSubjectReview", False, ("create",)),
    Served("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "selfsubjectaccessreview",
           "SelfSubjectAccessReview", False, ("create",)),
    Served("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "selfsubjectrulesreview",
           "SelfSubjectRulesReview", False, ("create",)),
)  # fmt: skip


def served(extra: Iterable[tuple[str, str]] = ()) -> tuple[Served, ...]:
    """All resources; `extra`: further (kind, subresource) that can be read."""
    more = tuple(extra)
    return (*(_of(kind, more) for kind in SERVED), *REVIEWS)


def _of(kind: ApiKind[Any], extra: tuple[tuple[str, str], ...]) -> Served:
    subresources: dict[str, tuple[str, tuple[str, ...]]] = {}
    if kind.has_status:
        subresources["status"] = (kind.name, STATUS_VERBS)
    if kind.name == "EnrollmentRequest":
        subresources["approval"] = (kind.name, STATUS_VERBS)
    for name, subresource in extra:
        if name == kind.name and kind.view is None:
            subresources[subresource] = (kind.name, ("get",))
    return Served(
        group=kind.group,
        version=kind.version,
        plural=kind.plural,
        singular=kind.singular,
        kind=kind.name,
        namespaced=kind.namespaced,
        verbs=VERBS,
        short_names=kind.short_names,
        categories=("all", "edgevirt") if kind.group == GROUP else (),
        subresources=subresources,
    )


def api_versions(address: str) -> Json:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _groups(resources: Iterable[Served]) -> dict[str, list[str]]:
    """Versions by group; the project's own group first."""
    groups: dict[str, list[str]] = {GROUP: []}
    for resource in resources:
        versions = groups.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    return groups


def api_group(group: str, resources: Iterable[Served]) -> Json | None:
    versions = _groups(resources).get(group)
    if not group or not versions:
        return None
    entries = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": entries,
        "preferredVersion": entries[0],
    }


def api_groups(resources: Iterable[Served]) -> Json:
    resources = tuple(resources)
    found = [api_group(group, resources) for group in _groups(resources)]
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {key: value for key, value in group.items() if key not in ("kind", "apiVersion")}
            for group in found
            if group
        ],
    }


def api_resources(group: str, version: str, resources: Iterable[Served]) -> Json | None:
    listed: list[Json] = []
    name = f"{group}/{version}" if group else version
    for resource in resources:
        if (resource.group, resource.version) != (group, version):
            continue
        entry: Json = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        listed.append(entry)
        for subresource, (kind, verbs) in (resource.subresources or {}).items():
            listed.append(
                {
                    "name": f"{resource.plural}/{subresource}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind,
                    "verbs": list(verbs),
                }
            )
    if not listed:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": listed,
    }


def aggregated(resources: Iterable[Served], *, core: bool, version: str) -> Json:
    """All of it in one answer (apidiscovery.k8s.io)."""
    resources = tuple(resources)
    items = []
    for group, versions in _groups(resources).items():
        if (group == "") is not core:
            continue
        entries = [
            {
                "version": v,
                "freshness": "Current",
                "resources": [
                    _aggregated(r) for r in resources if (r.group, r.version) == (group, v)
                ],
            }
            for v in versions
        ]
        items.append({"metadata": {"name": group}, "versions": entries})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated(resource: Served) -> Json:
    def response(kind: str) -> Json:
        return {"group": resource.group, "version": resource.version, "kind": kind}

    return {
        "resource": resource.plural,
        "responseKind": response(resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
        **({"shortNames": list(resource.short_names)} if resource.short_names else {}),
        **({"categories": list(resource.categories)} if resource.categories else {}),
        "subresources": [
            {"subresource": name, "responseKind": response(kind), "verbs": list(verbs)}
            for name, (kind, verbs) in (resource.subresources or {}).items()
        ],
    }
