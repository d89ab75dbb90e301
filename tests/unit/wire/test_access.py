"""A token that grants consoles, and the messages of a session."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model.access import ConsoleGrant, ConsoleKind
from edgevirt.model.ids import AppId, NodeId
from edgevirt.wire import access, signatures
from edgevirt.wire.access import AccessError, Data, End, Line, Role

NODE = NodeId("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
KEY = ec.generate_private_key(ec.SECP256R1())
GRANT = ConsoleGrant(
    id="s1", app=AppId("app"), kind=ConsoleKind.SERIAL, key=bytes(range(32)), end=1_000.0
)


def refused(token: str, key: ec.EllipticCurvePrivateKey = KEY, node: NodeId = NODE) -> str:
    with pytest.raises(AccessError) as caught:
        access.read_token(token, key.public_key(), node)
    return str(caught.value)


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_node_reads_what_its_controller_granted() -> None:
    token = access.make_token(KEY, NODE, [GRANT])
    found = access.read_token(token, KEY.public_key(), NODE)
    assert found == access.Granted(access.PATH, 1001.0, (GRANT,))


def test_it_is_the_token_that_eve_describes() -> None:
    header, body, signature = access.make_token(KEY, NODE, [GRANT]).split(".")

    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decoded(header)) == {"alg": "ES256", "typ": "JWT"}
    claims = json.loads(decoded(body))
    assert claims["sub"] == NODE
    assert (claims["num"], claims["enc"], claims["aut"]) == (1, True, 0)
    assert len(decoded(signature)) == 64


def test_a_token_of_somebody_else_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert "not this key's" in _signature_refused(access.make_token(stranger, NODE, [GRANT]))


def _signature_refused(token: str) -> str:
    with pytest.raises(ValueError, match="cannot verify") as caught:
        access.read_token(token, KEY.public_key(), NODE)
    return str(caught.value)


def test_a_token_for_another_node_is_refused() -> None:
    other = NodeId("00000000-0000-4000-8000-000000000000")
    assert "another node's" in refused(access.make_token(KEY, other, [GRANT]))


def test_a_token_that_names_another_algorithm_is_refused() -> None:
    _, body, _ = access.make_token(KEY, NODE, [GRANT]).split(".")
    assert "no ES256 JWT" in refused(f"{encode({'alg': 'none', 'typ': 'JWT'})}.{body}.")


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "é.é.é", "." * 20_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert "access token" in refused(token)


def test_a_changed_claim_breaks_the_signature() -> None:
    header, _, signature = access.make_token(KEY, NODE, [GRANT]).split(".")
    forged = encode({"dep": "evil.example", "sub": NODE, "exp": 9e9})
    _signature_refused(f"{header}.{forged}.{signature}")


def test_edge_view_of_another_controller_grants_no_console() -> None:
    claims = {"dep": "d.example", "sub": NODE, "exp": 5, "key": "n", "num": 1, "enc": False}
    text = f"{encode({'alg': 'ES256', 'typ': 'JWT'})}.{encode(claims)}"
    digest = hashlib.sha256(text.encode()).digest()
    signature = signatures.sign_digest(KEY, digest)
    token = f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert access.read_token(token, KEY.public_key(), NODE).grants == ()


def test_more_than_a_node_serves_at_once_is_refused() -> None:
    token = access.make_token(KEY, NODE, [GRANT] * 6)
    assert "too much" in refused(token)


def lines() -> tuple[Line, Line]:
    operator = Line(Role.OPERATOR, GRANT.key, b"o" * 32)
    node = Line(Role.NODE, GRANT.key, b"n" * 32)
    assert node.hear(operator.hello) is None
    assert operator.hear(node.hello) is None
    return operator, node


def test_both_ends_understand_each_other() -> None:
    operator, node = lines()
    assert node.hear(operator.say(Data(b"ls\r"))) == Data(b"ls\r")
    assert operator.hear(node.say(Data(b"bin\r\n"))) == Data(b"bin\r\n")
    assert operator.hear(node.say(End("cannot attach: it is off"))) == End(
        "cannot attach: it is off"
    )


def test_what_is_said_is_no_business_of_those_between() -> None:
    operator, _ = lines()
    assert b"secret" not in operator.say(Data(b"secret" * 100))


@pytest.mark.parametrize("how", ["changed", "repeated", "left out", "reflected"])
def test_a_message_that_somebody_meddled_with_ends_the_session(how: str) -> None:
    operator, node = lines()
    first, second = operator.say(Data(b"one")), operator.say(Data(b"two"))
    heard = {
        "changed": [first[:-1] + bytes((first[-1] ^ 1,))],
        "repeated": [first, first],
        "left out": [second],
        "reflected": [node.say(Data(b"mine"))],
    }[how]
    for message in heard[:-1]:
        node.hear(message)
    with pytest.raises(AccessError, match="not what the other end sent"):
        node.hear(heard[-1])


def test_without_the_key_nobody_takes_part() -> None:
    operator = Line(Role.OPERATOR, bytes(32), b"o" * 32)
    node = Line(Role.NODE, GRANT.key, b"n" * 32)
    node.hear(operator.hello)
    operator.hear(node.hello)
    with pytest.raises(AccessError):
        node.hear(operator.say(Data(b"x")))


def test_who_knows_the_key_alone_cannot_read_along() -> None:
    """It stands in a config, which TLS alone encrypts; the hellos are heard by all."""
    operator, node = lines()
    said = operator.say(Data(b"secret"))
    for secret in (b"o" * 31 + b"x", b"x" * 32):
        listener = Line(Role.NODE, GRANT.key, secret)
        listener.hear(operator.hello)
        with pytest.raises(AccessError):
            listener.hear(said)
    assert node.hear(said) == Data(b"secret")


OWN = Line(Role.NODE, GRANT.key, b"n" * 32).hello


@pytest.mark.parametrize("hello", [b"", b"short", OWN, b"x" * 33])
def test_a_line_begins_with_the_others_own_hello(hello: bytes) -> None:
    with pytest.raises(AccessError, match="hello"):
        Line(Role.NODE, GRANT.key, b"n" * 32).hear(hello)


def test_a_hello_that_would_make_the_agreement_known_to_all_is_refused() -> None:
    with pytest.raises(AccessError, match="cannot begin"):
        Line(Role.NODE, GRANT.key, b"n" * 32).hear(bytes(32))


def test_two_connections_of_one_session_share_no_key() -> None:
    first, _ = lines()
    second = Line(Role.OPERATOR, GRANT.key, b"p" * 32)
    second.hear(OWN)
    assert first.say(Data(b"same")) != second.say(Data(b"same"))
