from __future__ import annotations

from typing import Any

import msgspec

from edgevirt.fleet.objects.kinds import BY_NAME


def test_a_secret_must_hold_what_its_type_says() -> None:
    row = BY_NAME["Secret"]

    def problems(**fields: Any) -> dict[str, str]:
        value = msgspec.convert({"metadata": {"name": "x"}, **fields}, row.type)
        return {p.field: p.message for p in row.validate(value)}

    assert problems(data={"username": "YQ=="}, type="kubernetes.io/basic-auth") == {}
    assert "Required" in problems(type="kubernetes.io/basic-auth")["data[username]"]
    assert "must be base64" in problems(data={"a": "not base64!"})["data[a]"]
    assert "not base64!" not in str(problems(data={"a": "not base64!"}))
    assert "supported values" in problems(type="kubernetes.io/tls")["type"]
    assert "at most" in problems(data={"a": "AAAA" * 400_000})["data"]
