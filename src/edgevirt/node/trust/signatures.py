"""SignRequest → Signature: the agent asks, nobody else can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.model import kinds
from edgevirt.model.node import Signature, SigningKey, SignRequest
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime import Inputs, Kind, Report
from edgevirt.wire import signatures

DIGEST_SIZE = 32


class Signatures:
    """A signature, once given, stays as it is until its request is gone."""

    name = "signatures"
    spec: Kind[Any] = kinds.SIGN_REQUEST
    status: Kind[Any] = kinds.SIGNATURE
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None

    def __init__(
        self, keys: Mapping[SigningKey, ec.EllipticCurvePrivateKey], worker: Worker
    ) -> None:
        self._keys = keys
        self._worker = worker

    async def reconcile(
        self, key: str, spec: SignRequest | None, inputs: Inputs, report: Report[Any]
    ) -> Signature | None:
        if spec is None:
            return None
        given = inputs.get(kinds.SIGNATURE, key)
        if given is not None:
            return given
        private = self._keys.get(spec.key)
        if private is None:
            return Signature(rs=b"", why=f"there is no {spec.key.value} key")
        if len(spec.digest) != DIGEST_SIZE:
            return Signature(rs=b"", why="this is no digest")
        try:
            rs = await self._worker.run(partial(signatures.sign_digest, private, spec.digest))
        except TpmError as error:
            return Signature(rs=b"", why=str(error))
        return Signature(rs=rs)

    async def existing(self) -> Iterable[str]:
        return ()
