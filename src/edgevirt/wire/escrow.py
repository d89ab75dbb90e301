"""The copy of a vault's key that the controller keeps: AttestVolumeKeyData, opaque to it.

Encrypted under a key that the node's two keys make: its exchange key, which a TPM holds, and its
device key's public half. The controller gives it back to a node that it believes.
"""

from __future__ import annotations

import hashlib

from google.protobuf.message import DecodeError

from edgevirt.wire import cipher
from edgevirt.wire.cipher import BlockKey
from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import attest, common

_NO_IV = bytes(cipher.IV_SIZE)
"""As the scheme has it: under this key there is one plaintext alone, the vault's random key."""


class EscrowError(WireError):
    """A copy that cannot be used."""


def wrap(key: BlockKey, secret: bytes) -> bytes:
    """The same for the same input, so that one can see whether the controller has it already."""
    block = cipher.seal_with(key, "", secret, _NO_IV)
    data = attest.AttestVolumeKeyData(
        encrypted_key=block.cipherData, digest_sha256=hashlib.sha256(secret).digest()
    )
    return data.SerializeToString(deterministic=True)


def unwrap(key: BlockKey, blob: bytes) -> bytes:
    """Raises EscrowError for a copy that is damaged, or of another machine."""
    try:
        data = attest.AttestVolumeKeyData.FromString(blob)
        block = common.CipherBlock(
            cipherData=data.encrypted_key, initialValue=_NO_IV, clearTextSha256=data.digest_sha256
        )
        return cipher.open_block(key, block)
    except (DecodeError, cipher.CipherError) as error:
        raise EscrowError(
            Reason.BAD_DIGEST, f"cannot use the controller's copy of the vault's key: {error}"
        ) from error
