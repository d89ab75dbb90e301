"""SignRequest → Signature: the agent asks, nobody else can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model import kinds
from edgevirt.model.node import Signature, SigningKey
from edgevirt.runtime import Again, Inputs, Kind, Output
from edgevirt.wire import signatures

DIGEST_SIZE = 32


class Signatures:
    """A signature, once given, stays as it is until its request is gone."""

    name = "signatures"
    reads: tuple[Kind[Any], ...] = (kinds.SIGN_REQUEST,)
    owns: tuple[Kind[Any], ...] = (kinds.SIGNATURE,)

    def __init__(self, keys: Mapping[SigningKey, ec.EllipticCurvePrivateKey]) -> None:
        self._keys = keys

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        for key, request in inputs.all(kinds.SIGN_REQUEST).items():
            given = inputs.get(kinds.SIGNATURE, key)
            if given is None:
                private = self._keys.get(request.key)
                if private is None or len(request.digest) != DIGEST_SIZE:
                    given = Signature(rs=b"")
                else:
                    given = Signature(rs=signatures.sign_digest(private, request.digest))
            yield Output(kinds.SIGNATURE, key, given)
