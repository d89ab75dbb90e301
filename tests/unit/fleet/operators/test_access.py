"""Who comes in, and what each role may do."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.kubeconfig import Credential, issue, write_kubeconfig
from edgevirt.fleet.operators.roles import ADMINS, PROJECT, VIEWERS, Action, Roles, User
from edgevirt.runtime import VirtualClock
from tests.parts.operators_api import authority

GROUP = "edgevirt.io"


def action(verb: str, resource: str, namespace: str = "", name: str = "") -> Action:
    return Action(verb, GROUP, resource, namespace=namespace, name=name)


@pytest.mark.parametrize(
    ("group", "wanted", "allowed"),
    [
        (ADMINS, action("delete", "namespaces", name="x"), True),
        (ADMINS, action("get", "secrets", "x"), True),
        (VIEWERS, action("watch", "apps"), True),
        (VIEWERS, action("get", "secrets", "x"), False),
        (VIEWERS, action("patch", "apps", "x"), False),
        (VIEWERS, action("deletecollection", "apps", "x"), False),
        (f"{PROJECT}x", action("delete", "apps", "x"), True),
        (f"{PROJECT}x", action("get", "secrets", "x"), True),
        (f"{PROJECT}x", action("get", "apps", "y"), False),
        (f"{PROJECT}x", action("list", "apps"), False),
        (f"{PROJECT}x", action("get", "namespaces", name="x"), True),
        (f"{PROJECT}x", action("get", "namespaces", "x", "x"), True),
        (f"{PROJECT}x", action("delete", "namespaces", name="x"), False),
        (f"{PROJECT}x", action("get", "namespaces", name="y"), False),
        (f"{PROJECT}x:viewers", action("get", "apps", "x"), True),
        (f"{PROJECT}x:viewers", action("get", "secrets", "x"), False),
        (f"{PROJECT}x:viewers", action("create", "apps", "x"), False),
        (f"{PROJECT}x:owners", action("get", "apps", "x"), False),
        (f"{PROJECT}", action("list", "apps"), False),
        (f"{PROJECT}:viewers", action("list", "apps"), False),
        ("edgevirt:admin", action("get", "apps"), False),
        ("system:masters", action("get", "apps"), False),
    ],
)
def test_each_group_may_do_what_its_role_says(group: str, wanted: Action, allowed: bool) -> None:
    assert Roles().allows(User("u", (group,)), wanted) is allowed


def test_a_user_of_no_group_may_only_ask_about_himself() -> None:
    nobody = User("nobody")
    assert not Roles().allows(nobody, action("get", "apps", "default"))
    assert Roles().allows(nobody, action("create", "selfsubjectreviews"))


def test_a_token_is_known_until_it_is_revoked(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    user = User("ada", (ADMINS,))
    token = tokens.add(user)
    other = tokens.add(User("ben"))
    assert tokens.find(token) == user
    assert Tokens(tmp_path / "tokens.json").find(token) == user, "after a restart too"
    for wrong in ("", "x", token + "x", token[:-1], "é", token.swapcase()):
        assert tokens.find(wrong) is None
    assert tokens.revoke("ada") == 1
    assert tokens.find(token) is None
    assert tokens.find(other) == User("ben")


def test_the_token_file_holds_no_token_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = Tokens(path).add(User("ada"))
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_added_by_another_process_is_seen_at_once(tmp_path: Path) -> None:
    served = Tokens(tmp_path / "tokens.json")
    assert served.find("x") is None
    token = Tokens(tmp_path / "tokens.json").add(User("ada"))
    assert served.find(token) == User("ada")


def doors(tmp_path: Path, clock: VirtualClock, certificate: x509.Certificate) -> Doors:
    return Doors(Tokens(tmp_path / "tokens.json"), certificate, clock)


def der(credential: Credential) -> bytes:
    return x509.load_pem_x509_certificate(credential.certificate).public_bytes(Encoding.DER)


def test_a_certificate_names_its_user_and_groups(tmp_path: Path) -> None:
    clock = VirtualClock()
    issuer = authority(clock)
    user = User("ada", (ADMINS, VIEWERS))
    certificate = der(issue(issuer, user, clock.now()))
    assert doors(tmp_path, clock, issuer.certificate).authenticate(None, certificate) == user


async def test_a_certificate_ends_even_on_an_open_connection(tmp_path: Path) -> None:
    clock = VirtualClock()
    issuer = authority(clock)
    certificate = der(issue(issuer, User("ada"), clock.now(), timedelta(days=1)))
    gate = doors(tmp_path, clock, issuer.certificate)
    assert gate.authenticate(None, certificate) is not None
    await clock.advance(86_401)
    assert gate.authenticate(None, certificate) is None


def test_another_s_certificate_opens_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    mine, other = authority(clock), authority(clock)
    gate = doors(tmp_path, clock, mine.certificate)
    assert gate.authenticate(None, der(issue(other, User("ada", (ADMINS,)), clock.now()))) is None
    assert gate.authenticate(None, mine.certificate.public_bytes(Encoding.DER)) is None
    assert gate.authenticate(None, b"garbage") is None
    assert gate.authenticate("Basic YTpi", None) is None
    assert gate.authenticate("Bearer ", None) is None
    assert gate.authenticate(None, None) is None


def test_a_kubeconfig_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, "https://fleet:8443", b"CA", Credential(b"CERT", b"KEY"))
    assert path.stat().st_mode & 0o077 == 0
    config = yaml.safe_load(path.read_text())
    assert config["current-context"] == "edgevirt"
    assert config["clusters"][0]["cluster"]["server"] == "https://fleet:8443"
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == b"KEY"
    write_kubeconfig(path, "https://fleet:8443", b"CA", "secret-token")
    assert yaml.safe_load(path.read_text())["users"][0]["user"] == {"token": "secret-token"}
