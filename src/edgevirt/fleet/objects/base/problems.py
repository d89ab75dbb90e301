"""What is wrong with an object: Kubernetes' causes, in its words, each with the field's path."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

NOT_FOUND = "FieldValueNotFound"


@dataclass(frozen=True)
class Problem:
    """One cause of a 422. `field` as `spec.interfaces[0].ip`."""

    reason: str
    field: str
    message: str


def required(field: str, hint: str = "") -> Problem:
    text = "Required value" + (f": {hint}" if hint else "")
    return Problem("FieldValueRequired", field, text)


def invalid(field: str, value: object, why: str) -> Problem:
    return Problem("FieldValueInvalid", field, f"Invalid value: {_quote(value)}: {why}")


def mistyped(field: str, value: object, why: str) -> Problem:
    return Problem("FieldValueTypeInvalid", field, f"Invalid value: {_quote(value)}: {why}")


def unsupported(field: str, value: object, supported: Iterable[str], hint: str = "") -> Problem:
    listed = ", ".join(_quote(s) for s in supported)
    text = f"Unsupported value: {_quote(value)}: supported values: {listed}"
    return Problem("FieldValueNotSupported", field, text + (f" ({hint})" if hint else ""))


def not_found(field: str, value: object, hint: str = "") -> Problem:
    text = f"Not found: {_quote(value)}" + (f": {hint}" if hint else "")
    return Problem(NOT_FOUND, field, text)


def duplicate(field: str, value: object, why: str = "") -> Problem:
    text = f"Duplicate value: {_quote(value)}" + (f": {why}" if why else "")
    return Problem("FieldValueDuplicate", field, text)


def forbidden(field: str, why: str) -> Problem:
    return Problem("FieldValueForbidden", field, f"Forbidden: {why}")


def _quote(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "…"
