"""Who must sign a content tree goes over the wire, and is never lost on the way."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model.content import ContentFormat, ContentTree
from edgevirt.model.ids import ContentTreeId
from edgevirt.wire import cosign
from edgevirt.wire.convert import contents
from edgevirt.wire.messages import config

ID = "c0000000-0000-0000-0000-000000000001"
KEYS = tuple(cosign.public_pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))


def through(message: config.ContentTree) -> tuple[ContentTree, config.ContentTree]:
    noun = contents.content_tree(message)
    return noun, contents.content_tree_message(noun)


def test_keys_go_over_the_wire_and_back() -> None:
    noun = ContentTree(
        id=ContentTreeId(ID), datastores=(), url="a", format=ContentFormat.RAW, signers=KEYS
    )
    message = contents.content_tree_message(noun)
    assert message.siginfo.signercerturl.startswith("data:application/x-pem-file;base64,")
    assert contents.content_tree(message) == noun
    for pem in KEYS:
        assert cosign.parse_key(pem)


def test_signatures_of_another_controller_s_kind_are_left_as_they_are() -> None:
    message = config.ContentTree(uuid=ID, URL="a")
    message.siginfo.signercerturl = "https://example.com/signer.pem"
    message.siginfo.signature = b"x"
    noun, again = through(message)
    assert noun.signers == ()
    assert again == message


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:text/plain,x",
        "data:application/x-pem-file;base64,!",
        "data:application/x-pem-file;base64,",
        "data:application/x-pem-file;base64," + base64.b64encode(b"\xff").decode(),
        "data:application/x-pem-file;base64," + "A" * 100_000,
    ],
)
def test_a_list_of_keys_that_cannot_be_read_does_not_mean_that_nobody_signs(url: str) -> None:
    message = config.ContentTree(uuid=ID, URL="a")
    message.siginfo.signercerturl = url
    (key,) = contents.content_tree(message).signers
    with pytest.raises(cosign.BadKey):
        cosign.parse_key(key)
    assert through(through(message)[1])[0].signers == (key,)
