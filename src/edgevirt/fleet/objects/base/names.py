"""Rules for names, labels and annotations: Kubernetes' own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.base.problems import Problem, invalid, required

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of one object together."""

_LABEL_RULE = (
    "must consist of lower case letters, digits or '-', start and end with a letter or digit, "
    "and be no longer than 63 characters"
)
_SUBDOMAIN_RULE = (
    "must consist of lower case letters, digits, '-' or '.', start and end with a letter or "
    "digit, and be no longer than 253 characters"
)
_QUALIFIED_RULE = (
    "must consist of letters, digits, '-', '_' or '.', start and end with a letter or digit, "
    "and be no longer than 63 characters"
)


def is_label(text: str) -> bool:
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def check_label(field: str, text: str) -> Iterator[Problem]:
    """A DNS label: names of volumes, interfaces and namespaces."""
    if not text:
        yield required(field)
    elif not is_label(text):
        yield invalid(field, text, _LABEL_RULE)


def check_subdomain(field: str, text: str) -> Iterator[Problem]:
    """A DNS subdomain: names of objects."""
    if not text:
        yield required(field)
    elif not is_subdomain(text):
        yield invalid(field, text, _SUBDOMAIN_RULE)


def check_label_key(field: str, key: str) -> Iterator[Problem]:
    prefix, slash, name = key.rpartition("/")
    if slash and not is_subdomain(prefix):
        yield invalid(field, key, "its prefix " + _SUBDOMAIN_RULE)
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        yield invalid(field, key, "its name " + _QUALIFIED_RULE)


def check_label_value(field: str, value: str) -> Iterator[Problem]:
    if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
        yield invalid(field, value, _QUALIFIED_RULE)


def check_labels(field: str, labels: dict[str, str]) -> Iterator[Problem]:
    for key, value in labels.items():
        yield from check_label_key(field, key)
        yield from check_label_value(field, value)


def check_metadata(meta: ObjectMeta, *, namespaced: bool) -> Iterator[Problem]:
    """Rules that hold for every kind."""
    rule = check_subdomain if namespaced else check_label
    yield from rule("metadata.name", meta.name)
    yield from check_labels("metadata.labels", meta.labels)
    for key in meta.annotations:
        yield from check_label_key("metadata.annotations", key.lower())
    size = sum(len(k.encode()) + len(v.encode()) for k, v in meta.annotations.items())
    if size > MAX_ANNOTATIONS:
        yield invalid(
            "metadata.annotations", size, f"must have at most {MAX_ANNOTATIONS} bytes in all"
        )
    for index, finalizer in enumerate(meta.finalizers):
        yield from check_label_key(f"metadata.finalizers[{index}]", finalizer)
