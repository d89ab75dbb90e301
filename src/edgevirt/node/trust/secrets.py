"""Cipher blocks → what they hold, each for the one service that needs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.model import kinds
from edgevirt.model.app import AppSecret
from edgevirt.model.content import CipherBlock, Credentials
from edgevirt.node.trust.keys import Agree
from edgevirt.runtime import Again, Inputs, Kind, Output
from edgevirt.wire import certificates, cipher
from edgevirt.wire.convert.contents import cipher_block_message
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import common

MODULE_RETRY = 30.0
"""Seconds, after the security module failed."""


class Secrets:
    """Plaintexts are kept in memory only, in kinds that name their readers."""

    name = "secrets"
    reads: tuple[Kind[Any], ...] = (
        kinds.DATASTORE,
        kinds.APP_INSTANCE,
        kinds.CIPHER_CONTEXT,
        kinds.CONTROLLER_CERTIFICATES,
    )
    owns: tuple[Kind[Any], ...] = (kinds.CREDENTIALS, kinds.APP_SECRET)

    def __init__(self, agree: Agree, ecdh_cert: bytes) -> None:
        self._agree = agree
        self._cert_hash = certificates.short_pem_hash(ecdh_cert)
        self._shared: dict[str, cipher.BlockKey] = {}
        self._failed = False

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        self._failed = False
        for key, store in inputs.all(kinds.DATASTORE).items():
            if store.cipher is not None:
                yield Output(kinds.CREDENTIALS, key, self._credentials(inputs, store.cipher))
        for key, app in inputs.all(kinds.APP_INSTANCE).items():
            if app.cipher is not None:
                yield Output(kinds.APP_SECRET, key, self._user_data(inputs, app.cipher))
        if self._failed:
            yield Again(MODULE_RETRY)

    def _credentials(self, inputs: Inputs, block: CipherBlock) -> Credentials:
        try:
            found = self._open(inputs, block)
        except (WireError, TpmError) as error:
            return Credentials(why=self._why(error))
        return Credentials(user=found.dsAPIKey, password=found.dsPassword)

    def _user_data(self, inputs: Inputs, block: CipherBlock) -> AppSecret:
        try:
            found = self._open(inputs, block)
        except (WireError, TpmError) as error:
            return AppSecret(user_data="", why=self._why(error))
        return AppSecret(user_data=found.protectedUserData, vnc_password=found.encrypted_data)

    def _why(self, error: Exception) -> str:
        self._failed = self._failed or isinstance(error, TpmError)
        return str(error)

    def _open(self, inputs: Inputs, block: CipherBlock) -> common.EncryptionBlock:
        key = self._key(inputs, block.context_id)
        return cipher.open_secrets(key, cipher_block_message(block))

    def _key(self, inputs: Inputs, context_id: str) -> cipher.BlockKey:
        """Agreed once for each controller certificate: only then does a TPM take its time here.

        Raises CipherError, TpmError.
        """
        context = inputs.get(kinds.CIPHER_CONTEXT, context_id)
        if context is None:
            raise cipher.CipherError(
                Reason.MALFORMED, f"cannot decrypt: cipher context {context_id} is unknown"
            )
        if context.device_cert_hash != self._cert_hash:
            raise cipher.CipherError(
                Reason.BAD_KEY, "cannot decrypt: encrypted for another key of this node"
            )
        pem = self._controller_cert(inputs, context.controller_cert_hash)
        if pem not in self._shared:
            peer = certificates.load_pem(pem.encode()).public_key()
            if not isinstance(peer, ec.EllipticCurvePublicKey):
                raise cipher.CipherError(
                    Reason.BAD_KEY, "cannot decrypt: the controller's key is none for this"
                )
            self._shared[pem] = self._agree(peer)
        return self._shared[pem]

    def _controller_cert(self, inputs: Inputs, cert_hash: bytes) -> str:
        listed = inputs.get(kinds.CONTROLLER_CERTIFICATES, "controller")
        for known, pem in listed.ecdh if listed else ():
            if known == cert_hash:
                return pem
        raise cipher.CipherError(
            Reason.UNKNOWN_SENDER,
            "cannot decrypt: the controller's encryption certificate isn't known yet",
        )
