"""Passwords of screens reach the node, and nobody on the way."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet import render
from edgevirt.fleet.objects.app.vnc import AppVnc
from edgevirt.fleet.objects.base.object import LocalRef
from edgevirt.fleet.objects.project.conflicts import check_instance
from edgevirt.fleet.objects.project.project import Project
from edgevirt.fleet.render import Cipher, Objects
from edgevirt.wire import cipher
from edgevirt.wire.convert import contents
from edgevirt.wire.convert import device as convert
from tests.unit.fleet.objects_world import APP, INSTANCE, OBJECTS, changed, having, meta

VNC = AppVnc(display=3, password_secret_ref=LocalRef(name="screen"))
MACHINE = changed(APP, type="VM", env=(), volumes=(), user_data="#cloud-config", vnc=VNC)


@pytest.fixture(scope="module")
def secret() -> Cipher:
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    key = cipher.shared_key(ours, theirs.public_key())
    return render.make_cipher(OBJECTS.node_id, bytes(16), bytes(range(16)), key)


def with_screen(secret: Cipher | None, **parts: Any) -> Objects:
    found: dict[str, Any] = {"apps": {"web": MACHINE}, "cipher": secret}
    return having(**{**found, "screen_passwords": {"web": "opensesame"}, **parts})


def test_the_password_is_in_the_cipher_block_alone(secret: Cipher) -> None:
    made = render.render(with_screen(secret))
    assert made.waiting == {}
    (app,) = made.config.apps
    assert app.resources.vnc is not None
    assert app.resources.vnc.display == 3
    assert b"opensesame" not in convert.to_message(made.config).SerializeToString()
    assert app.cipher is not None
    held = cipher.open_secrets(secret.key, contents.cipher_block_message(app.cipher))
    assert held.encrypted_data == "opensesame"
    assert made.config.cipher_contexts == (secret.context,)


def test_who_does_not_look_into_the_block_has_its_user_data_and_lets_nobody_in(
    secret: Cipher,
) -> None:
    plain = render.render(with_screen(secret, apps={"web": changed(MACHINE, vnc=None)}))
    (app,) = render.render(with_screen(secret)).config.apps
    assert app.cipher is not None
    held = cipher.open_secrets(secret.key, contents.cipher_block_message(app.cipher))
    assert held.protectedUserData == plain.config.apps[0].user_data
    assert app.resources.vnc is not None
    assert len(app.resources.vnc.password) == 8
    assert app.resources.vnc.password not in ("opensesame"[:8], "")


def test_another_password_restarts_nothing(secret: Cipher) -> None:
    (one,) = render.render(with_screen(secret)).config.apps
    (two,) = render.render(with_screen(secret, screen_passwords={"web": "another"})).config.apps
    assert one.cipher != two.cipher
    assert one.restart_counter == two.restart_counter


@pytest.mark.parametrize(
    ("passwords", "why"),
    [({}, "Secret 'screen' cannot be read"), ({"web": ""}, "Secret 'screen' has no password")],
)
def test_without_its_password_the_app_waits(
    secret: Cipher, passwords: dict[str, str], why: str
) -> None:
    made = render.render(with_screen(secret, screen_passwords=passwords))
    assert made.waiting == {"web-1": f"cannot put it on the node: {why}"}


def test_without_the_node_s_key_too() -> None:
    made = render.render(with_screen(None))
    assert "has not sent its encryption key" in made.waiting["web-1"]


def test_a_display_is_given_once_on_each_node() -> None:
    other = changed(MACHINE, interfaces=())
    second = changed(INSTANCE, app="other")
    second = type(second)(metadata=meta("other-1"), spec=second.spec)
    both = Project(
        apps={"web": MACHINE, "other": type(other)(metadata=meta("other"), spec=other.spec)},
        instances={"web-1": INSTANCE, "other-1": second},
        networks={},
    )
    (problem,) = check_instance(second, both)
    assert "VNC display 3 on EdgeNode" in problem.message
