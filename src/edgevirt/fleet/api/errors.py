"""What the API refuses, as Kubernetes' Status objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgevirt.fleet.objects.base.problems import Problem
from edgevirt.fleet.objects.kinds import ApiKind

Json = dict[str, Any]


class ApiError(Exception):
    """An answer that is not a success. `details` as in Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def status(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


def resource_name(kind: ApiKind[Any]) -> str:
    """`edgenodes.edgevirt.io`, as messages name resources."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _about(kind: ApiKind[Any], name: str, causes: list[Json] | None = None) -> Json:
    details: Json = {"name": name, "kind": kind.plural}
    if kind.group:
        details["group"] = kind.group
    if causes:
        details["causes"] = causes
    return details


def not_found(kind: ApiKind[Any], name: str) -> ApiError:
    message = f'{resource_name(kind)} "{name}" not found'
    return ApiError(404, "NotFound", message, _about(kind, name))


def already_exists(kind: ApiKind[Any], name: str) -> ApiError:
    message = f'{resource_name(kind)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _about(kind, name))


def conflict(kind: ApiKind[Any], name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource_name(kind)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(kind, name))


CHANGED = "the object has been modified; please apply your changes to the latest version"


def manager_conflict(conflicts: list[tuple[str, str, str]]) -> ApiError:
    """`conflicts`: (manager, its API version, field)."""
    count = len(conflicts)
    managers = sorted({(manager, version) for manager, version, _ in conflicts})
    lines = []
    for manager, version in managers:
        fields = [field for m, v, field in conflicts if (m, v) == (manager, version)]
        one = f'conflict with "{manager}" using {version}'
        if len(managers) == 1 and len(fields) == 1:
            lines.append(f"{one}: {fields[0]}")
        else:
            lines.append(f"{one}:\n- " + "\n- ".join(fields))
    plural = "s" if count > 1 else ""
    message = f"Apply failed with {count} conflict{plural}: " + "\n".join(lines)
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}" using {version}',
            "field": field,
        }
        for manager, version, field in conflicts
    ]
    return ApiError(409, "Conflict", message, {"causes": causes})


def invalid(kind: ApiKind[Any], name: str, problems: Iterable[Problem]) -> ApiError:
    listed = list(problems)
    words = [f"{p.field}: {p.message}" if p.field else p.message for p in listed]
    text = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    what = f"{kind.name}.{kind.group}" if kind.group else kind.name
    causes = [{"reason": p.reason, "message": p.message, "field": p.field} for p in listed]
    details: Json = {"name": name, "kind": kind.name, "causes": causes}
    if kind.group:
        details["group"] = kind.group
    return ApiError(422, "Invalid", f'{what} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    headers = {"WWW-Authenticate": 'Bearer realm="edgevirt"'}
    return ApiError(401, "Unauthorized", "Unauthorized", headers=headers)


def forbidden(message: str, details: Json | None = None) -> ApiError:
    return ApiError(403, "Forbidden", message, details)


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def unknown_path() -> ApiError:
    message = "the server could not find the requested resource"
    return ApiError(404, "NotFound", message, {})


def wrong_method(method: str) -> ApiError:
    message = f"the server does not allow {method} on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media(given: str, supported: Iterable[str]) -> ApiError:
    accepted = ", ".join(supported)
    message = (
        f"the body of the request was in an unknown format ({given or 'none'}) - "
        f"accepted media types include: {accepted}"
    )
    return ApiError(415, "UnsupportedMediaType", message, {})


def not_acceptable() -> ApiError:
    message = "only the following media types are accepted: application/json, application/yaml"
    return ApiError(406, "NotAcceptable", message, {})


def too_large(limit: int) -> ApiError:
    message = f"the request is too large: its body may have at most {limit} bytes"
    return ApiError(413, "RequestEntityTooLarge", message)


def too_slow(seconds: float) -> ApiError:
    return ApiError(408, "Timeout", f"the body of the request did not come within {seconds:g} s")
