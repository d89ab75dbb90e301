from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.core.sealing import LAST_APPLIED, Sealer, load_sealer
from edgevirt.fleet.objects.core.secret import Secret, value_of


def secret(uid: str = "u1") -> Secret:
    meta = ObjectMeta(name="s", namespace="n", uid=uid, annotations={LAST_APPLIED: "hunter2"})
    return Secret(metadata=meta, data={"password": "aHVudGVyMg==", "username": "YQ=="})


def test_a_sealed_secret_opens_to_what_it_was() -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(secret())
    assert "aHVudGVyMg==" not in str(sealed)
    assert "hunter2" not in str(sealed)
    assert sealer.open(sealed) == secret()
    assert value_of(secret(), "password") == "hunter2"


def test_a_sealed_value_cannot_be_moved_to_another_secret_or_name() -> None:
    sealer = Sealer(bytes(32))
    data = sealer.seal(secret()).data
    stolen = Secret(metadata=ObjectMeta(uid="u2"), data=data)
    swapped = Secret(metadata=ObjectMeta(uid="u1"), data={"username": data["password"]})
    for wrong in (stolen, swapped):
        with pytest.raises(ValueError, match="another key"):
            sealer.open(wrong)


def test_another_key_or_clear_text_does_not_open() -> None:
    with pytest.raises(ValueError, match="another key"):
        Sealer(b"x" * 32).open(Sealer(bytes(32)).seal(secret()))
    with pytest.raises(ValueError, match="never sealed"):
        Sealer(bytes(32)).open(secret())


def test_the_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    sealed = load_sealer(tmp_path).seal(secret())
    assert load_sealer(tmp_path).open(sealed) == secret()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
