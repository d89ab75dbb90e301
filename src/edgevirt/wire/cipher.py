"""Secrets inside a config: agreed keys, encrypted blocks and what they hold.

Controller and node each have a P-256 key pair for exchange. The key of a block is the digest of
both coordinates of the point that they share, while most libraries give only the first, hence
`shared_key`; who has the whole point, as a TPM does, calls `key_from_point`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NewType

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from google.protobuf.message import DecodeError

from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import common

BlockKey = NewType("BlockKey", bytes)
"""32 bytes: AES-256 key of all blocks between one controller key and one node key."""

IV_SIZE: Final = 16
KEY_SIZE: Final = 32

_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""P-256: y² = x³ - 3x + b modulo p, of order n (SP 800-186, 3.2.1.3)."""


class CipherError(WireError):
    """A block that cannot be opened, or not be made from what was given."""


def describe_context(
    context_id: str, controller_cert_hash: bytes, device_cert_hash: bytes
) -> common.CipherContext:
    """How a config names a pair of keys: by the short hashes of their certificates."""
    return common.CipherContext(
        contextId=context_id,
        hashScheme=common.HASH_ALGORITHM_SHA256_16BYTES,
        keyExchangeScheme=common.KEA_ECDH,
        encryptionScheme=common.SA_AES_256_CFB,
        deviceCertHash=device_cert_hash,
        controllerCertHash=controller_cert_hash,
    )


def require_supported(context: common.CipherContext) -> None:
    """Raise BAD_ALGORITHM unless the context uses the one exchange and cipher that exist."""
    if context.keyExchangeScheme != common.KEA_ECDH:
        raise CipherError(
            Reason.BAD_ALGORITHM, f"cannot use context: key exchange {context.keyExchangeScheme}"
        )
    if context.encryptionScheme != common.SA_AES_256_CFB:
        raise CipherError(
            Reason.BAD_ALGORITHM, f"cannot use context: encryption {context.encryptionScheme}"
        )


def key_from_point(x: int, y: int) -> BlockKey:
    """The block key that belongs to a shared point."""
    return BlockKey(hashlib.sha256(x.to_bytes(32, "big") + y.to_bytes(32, "big")).digest())


def shared_key(own: ec.EllipticCurvePrivateKey, peer: ec.EllipticCurvePublicKey) -> BlockKey:
    """The block key between a private key in memory and a peer's public key; costs 0.4 ms."""
    if not isinstance(own.curve, ec.SECP256R1) or not isinstance(peer.curve, ec.SECP256R1):
        raise CipherError(Reason.BAD_KEY, "cannot agree on a key: both must be of P-256")
    return key_from_point(*_shared_point(own, peer))


def seal(key: BlockKey, context_id: str, plaintext: bytes) -> common.CipherBlock:
    """Encrypt. The same input yields the same block, so that a config's hash stays the same.

    The initial value is a keyed digest of the input: it differs wherever the plaintexts do.
    """
    if not plaintext:
        raise CipherError(Reason.MALFORMED, "cannot encrypt: peers refuse an empty plaintext")
    named = context_id.encode() + b"\0" + plaintext
    return seal_with(key, context_id, plaintext, hmac.digest(key, named, "sha256")[:IV_SIZE])


def seal_with(key: BlockKey, context_id: str, plaintext: bytes, iv: bytes) -> common.CipherBlock:
    """Encrypt under a chosen initial value, never to be used for another plaintext."""
    return common.CipherBlock(
        cipherContextId=context_id,
        initialValue=iv,
        cipherData=_cipher(key, iv).encryptor().update(plaintext),
        clearTextSha256=hashlib.sha256(plaintext).digest(),
    )


def open_block(key: BlockKey, block: common.CipherBlock) -> bytes:
    """Decrypt and check. The digest tells a wrong key; it is no proof of who encrypted."""
    if not block.cipherData:
        raise CipherError(Reason.MALFORMED, "cannot decrypt: the block is empty")
    plaintext = _cipher(key, block.initialValue).decryptor().update(block.cipherData)
    if not hmac.compare_digest(hashlib.sha256(plaintext).digest(), block.clearTextSha256):
        raise CipherError(Reason.BAD_DIGEST, "cannot decrypt: wrong key or altered block")
    return plaintext


def seal_secrets(
    key: BlockKey, context_id: str, secrets: common.EncryptionBlock
) -> common.CipherBlock:
    """Encrypt a set of secrets as config objects carry them; at least one must be set."""
    return seal(key, context_id, secrets.SerializeToString(deterministic=True))


def open_secrets(key: BlockKey, block: common.CipherBlock) -> common.EncryptionBlock:
    plaintext = open_block(key, block)
    try:
        return common.EncryptionBlock.FromString(plaintext)
    except DecodeError as error:
        raise CipherError(
            Reason.MALFORMED, "cannot read secrets: what was encrypted is something else"
        ) from error


def _cipher(key: BlockKey, iv: bytes) -> Cipher[CFB]:
    if len(iv) != IV_SIZE:
        raise CipherError(
            Reason.MALFORMED, f"cannot use block: initial value of {len(iv)} bytes, not {IV_SIZE}"
        )
    if len(key) != KEY_SIZE:
        raise CipherError(Reason.BAD_KEY, f"cannot use key: {len(key)} bytes, not {KEY_SIZE}")
    return Cipher(algorithms.AES(key), CFB(iv))


def _shared_point(
    own: ec.EllipticCurvePrivateKey, peer: ec.EllipticCurvePublicKey
) -> tuple[int, int]:
    """Both coordinates of d·Q, from a library that multiplies but returns x alone.

    x leaves two candidates, (x, ±y). Only the right one, plus Q, is (d + 1)·Q, whose x the library
    tells as well. No secret scalar passes through arithmetic of ours.
    """
    scalar, point = own.private_numbers().private_value, peer.public_numbers()
    x = int.from_bytes(own.exchange(ec.ECDH(), peer), "big")
    if scalar == 1:
        return point.x, point.y
    if scalar == _N - 1:
        return point.x, _P - point.y
    y = pow(x**3 - 3 * x + _B, (_P + 1) // 4, _P)
    following = ec.derive_private_key(scalar + 1, ec.SECP256R1())
    expected = int.from_bytes(following.exchange(ec.ECDH(), peer), "big")
    return x, y if _x_of_sum(x, y, point.x, point.y) == expected else _P - y


def _x_of_sum(x1: int, y1: int, x2: int, y2: int) -> int:
    """The x of the sum of two points that differ in x."""
    slope = (y2 - y1) * pow(x2 - x1, -1, _P) % _P
    return (slope * slope - x1 - x2) % _P
