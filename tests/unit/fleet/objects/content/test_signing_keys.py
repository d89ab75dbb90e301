"""Keys that must sign images are checked where they are written."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.objects.base.object import LocalRef
from edgevirt.fleet.objects.content import datastore, image
from edgevirt.wire import cosign

GOOD = cosign.public_pem(ec.generate_private_key(ec.SECP256R1()))


def told(*keys: str, kind: str = "OCIRegistry") -> list[tuple[str, str]]:
    scheme = {"OCIRegistry": "docker", "HTTPS": "https"}[kind]
    spec = datastore.DatastoreSpec(type=kind, url=f"{scheme}://hub", signing_keys=keys)
    found = datastore.validate(datastore.Datastore(spec=spec))
    return [(problem.field, problem.message) for problem in found]


def test_a_public_key_is_taken() -> None:
    assert told(GOOD) == []
    spec = image.ImageSpec(
        datastore_refs=(LocalRef(name="hub"),), reference="a", signing_keys=(GOOD,)
    )
    assert list(image.validate(image.Image(spec=spec))) == []


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("nonsense", "must be a public key in PEM"),
        ("-----BEGIN PRIVATE KEY-----", "this is a private one"),
        (cosign.public_pem(ec.generate_private_key(ec.SECP384R1())), "ECDSA with P-256"),
    ],
)
def test_what_is_no_key_to_prove_with_is_refused(key: str, why: str) -> None:
    ((field, detail),) = told(GOOD, key)
    assert field == "spec.signingKeys[1]"
    assert why in detail
    assert "PRIVATE" not in detail


def test_a_web_server_holds_no_signatures() -> None:
    ((field, detail),) = told(GOOD, kind="HTTPS")
    assert field == "spec.signingKeys"
    assert "OCIRegistry" in detail
