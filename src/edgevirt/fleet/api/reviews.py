"""«May I?» and «who am I?»: the reviews behind `kubectl auth can-i` and `kubectl auth whoami`."""

from __future__ import annotations

from typing import Any

from edgevirt.fleet.api.errors import Json, bad_request
from edgevirt.fleet.operators.roles import AUTHENTICATED, Access, Action, User


def review(resource: str, body: Any, user: User, access: Access) -> Json:
    """The answered review. Raises ApiError when the body is not one."""
    answer, version, kind = _REVIEWS[resource]
    if not isinstance(body, dict) or body.get("kind") != kind or body.get("apiVersion") != version:
        raise bad_request(f"the body must be a {kind} of {version}")
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec must be an object")
    return {
        "kind": kind,
        "apiVersion": version,
        "metadata": {"creationTimestamp": None},
        "spec": spec,
        "status": answer(spec, user, access),
    }


def _access_review(spec: Json, user: User, access: Access) -> Json:
    wanted = spec.get("resourceAttributes")
    if wanted is None:
        return {"allowed": True, "reason": "paths that are no resources are open to all users"}
    if not isinstance(wanted, dict):
        raise bad_request("spec.resourceAttributes must be an object")

    def text(name: str) -> str:
        return str(wanted.get(name) or "")

    action = Action(
        verb=text("verb"),
        group=text("group"),
        resource=text("resource"),
        subresource=text("subresource"),
        namespace=text("namespace"),
        name=text("name"),
    )
    allowed = access.allows(user, action)
    return {"allowed": allowed, **({} if allowed else {"reason": refusal(user, action)})}


def _rules_review(spec: Json, user: User, access: Access) -> Json:
    rules = access.rules(user, str(spec.get("namespace") or ""))
    return {
        "resourceRules": [
            {
                "verbs": list(rule.verbs),
                "apiGroups": list(rule.groups),
                "resources": list(rule.resources),
            }
            for rule in rules
        ],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }


def _self_review(_spec: Json, user: User, _access: Access) -> Json:
    groups = [*user.groups, AUTHENTICATED]
    return {"userInfo": {"username": user.name, "groups": groups}}


_REVIEWS = {
    "selfsubjectaccessreviews": (
        _access_review,
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
    ),
    "selfsubjectrulesreviews": (_rules_review, "authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    "selfsubjectreviews": (_self_review, "authentication.k8s.io/v1", "SelfSubjectReview"),
}


def refusal(user: User, action: Action) -> str:
    """Why not, in Kubernetes' words."""
    what = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {action.verb} resource "{what}" in API group '
        f'"{action.group}" {where}'
    )
