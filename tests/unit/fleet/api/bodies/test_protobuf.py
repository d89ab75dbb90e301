"""Kubernetes' protobuf, written by hand from its encoding rules, as kubectl sends it."""

from __future__ import annotations

import pytest

from edgevirt.fleet.api.bodies import protobuf
from edgevirt.fleet.api.errors import ApiError


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field; shorter than 128 bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, version.encode()) + field(2, kind.encode())
    return b"k8s\0" + field(1, meta) + field(2, raw) + field(3, b"") + field(4, b"")


def test_a_secret_in_protobuf_is_the_same_as_in_json() -> None:
    meta = field(1, b"s") + field(3, b"") + field(11, field(1, b"a") + field(2, b"b"))
    raw = field(1, meta) + field(2, field(1, b"password") + field(2, b"hunter2"))
    raw += field(3, b"Opaque") + bytes([5 << 3, 1]) + field(15, b"unknown")
    assert protobuf.parse(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "", "labels": {"a": "b"}},
        "data": {"password": "aHVudGVyMg=="},
        "type": "Opaque",
        "immutable": True,
    }


def test_an_access_review_is_read() -> None:
    attributes = field(1, b"default") + field(2, b"get") + field(3, b"edgevirt.io")
    attributes += field(5, b"apps")
    raw = field(1, b"") + field(2, field(1, attributes))
    body = protobuf.parse(envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", raw))
    assert body["spec"] == {
        "resourceAttributes": {
            "namespace": "default",
            "verb": "get",
            "group": "edgevirt.io",
            "resource": "apps",
        }
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"k8s\0\xff\xff", 400),
        (envelope("v1", "Secret", b"\x0a\x7f"), 400),
        (envelope("v1", "Pod", b""), 415),
        (b"k8s\0", 415),
    ],
)
def test_other_kinds_and_garbage_are_refused(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        protobuf.parse(body)
    assert refused.value.code == code
