"""A session with a node that its controller lets somebody have: the token, and what is said.

The token is EVE's (EdgeView): a JSON web token in the node's config, signed by the controller. What
it may be used for stands in a claim of our own, `consoles`: EVE's nodes skip it, and its
controllers, who do not write it, grant our nodes nothing.

What both ends say goes through the controller's front door and is none of its business: each
message is encrypted and authenticated under keys of this session and this connection. These are
made of the session's key, which proves to each end who the other is, and of an agreement between
the two (X25519): who only knows the session's key, because it read a config, can't read along. A
message that was changed, repeated, left out or moved cannot be opened, and ends the session.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgevirt.model.access import ConsoleGrant, ConsoleKind
from edgevirt.model.ids import AppId, NodeId
from edgevirt.wire import signatures
from edgevirt.wire.errors import Reason, WireError

PATH: Final = "/access"
"""Of the dispatcher, at the nodes' front door."""
VERSION: Final = "edgevirt-console-2"
"""In `X-EdgeView-Version`: what the frames of a connection are."""
SESSION_HEADER: Final = "X-Session-Token"
VERSION_HEADER: Final = "X-EdgeView-Version"
MAX_SESSIONS: Final = 5
"""Of one node at a time (EVE's)."""
MAX_TOKEN: Final = 16_384
KEY_SIZE: Final = 32
SECRET_SIZE: Final = 32
"""Of what an end makes up for a connection, and of the public key that is its hello."""
MAX_PAYLOAD: Final = 32_768
MAX_FRAME: Final = MAX_PAYLOAD + 17
"""One byte tells what it is, 16 authenticate it."""

_HEADER: Final = {"alg": "ES256", "typ": "JWT"}


class AccessError(WireError):
    """A token or a message that cannot be believed."""


# -- the token --


class Granted(msgspec.Struct, frozen=True):
    """What a token says. `dispatcher`: host, port and path; a path alone: the controller's own."""

    dispatcher: str
    end: float
    grants: tuple[ConsoleGrant, ...]


class _Console(msgspec.Struct, frozen=True):
    id: str
    app: str
    kind: ConsoleKind
    key: str
    end: float


class _Claims(msgspec.Struct, frozen=True):
    dep: str
    sub: str
    exp: int
    key: str = ""
    num: int = 1
    enc: bool = False
    aut: int = 0
    consoles: tuple[_Console, ...] = ()


def make_token(
    key: ec.EllipticCurvePrivateKey,
    node: NodeId,
    grants: Sequence[ConsoleGrant],
    dispatcher: str = PATH,
) -> str:
    """For `node` alone, until the last of the grants ends."""
    consoles = tuple(
        _Console(grant.id, grant.app, grant.kind, _encode(grant.key), grant.end) for grant in grants
    )
    claims = _Claims(
        dep=dispatcher,
        sub=node,
        exp=int(max(grant.end for grant in grants)) + 1,
        key=_encode(hashlib.sha256(b"".join(grant.key for grant in grants)).digest()),
        num=len(grants),
        enc=True,
        consoles=consoles,
    )
    parts = (_encode(msgspec.json.encode(part)) for part in (_HEADER, claims))
    text = ".".join(parts)
    digest = hashlib.sha256(text.encode()).digest()
    return f"{text}.{_encode(signatures.sign_digest(key, digest))}"


def read_token(token: str, key: signatures.PublicKey, node: NodeId) -> Granted:
    """Raises AccessError unless the controller signed it, for this node. Its end is not judged."""
    if len(token) > MAX_TOKEN:
        raise AccessError(Reason.TOO_LARGE, "cannot read the access token: it is too large")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AccessError(Reason.BAD_KEY, "cannot verify the access token: no elliptic curve key")
    text, _, signature = token.rpartition(".")
    header, dot, body = text.partition(".")
    try:
        if not dot or msgspec.json.decode(_decode(header)) != _HEADER:
            raise AccessError(
                Reason.BAD_ALGORITHM, "cannot read the access token: it is no ES256 JWT"
            )
        signatures.verify(key, _decode(signature), text.encode())
        claims = msgspec.json.decode(_decode(body), type=_Claims)
        grants = tuple(map(_grant, claims.consoles))
    except (msgspec.MsgspecError, binascii.Error, UnicodeEncodeError) as error:
        why = f"cannot read the access token: {error}"
        raise AccessError(Reason.MALFORMED, why) from error
    if claims.sub.lower() != node:
        raise AccessError(Reason.UNTRUSTED, "cannot use the access token: it is another node's")
    if len(grants) > MAX_SESSIONS:
        raise AccessError(Reason.TOO_LARGE, "cannot use the access token: it grants too much")
    return Granted(claims.dep, float(claims.exp), grants)


def _grant(console: _Console) -> ConsoleGrant:
    key = _decode(console.key)
    if len(key) != KEY_SIZE or not console.id:
        raise AccessError(Reason.BAD_KEY, "cannot read the access token: a key has another size")
    return ConsoleGrant(
        id=console.id, app=AppId(console.app), kind=console.kind, key=key, end=console.end
    )


def session_token(grant: ConsoleGrant) -> str:
    """What a node shows at the dispatcher: that it was granted this, and not the key."""
    return _encode(hashlib.sha256(b"dispatcher " + grant.id.encode() + grant.key).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)


# -- what is said --


class Role(enum.Enum):
    """The two ends."""

    OPERATOR = b"operator"
    NODE = b"node"

    @property
    def other(self) -> Role:
        return Role.NODE if self is Role.OPERATOR else Role.OPERATOR


class Data(msgspec.Struct, frozen=True):
    """Bytes of the console."""

    data: bytes


class End(msgspec.Struct, frozen=True):
    """The session is over. `why`: in words; empty: as wanted."""

    why: str = ""


Said = Data | End


class Line:
    """One end of a session, without its transport: messages of bytes that arrive in order.

    `hello` goes out first. The other's first message is its own; after that `say` and `hear`.
    `secret`: SECRET_SIZE random bytes, never used before.
    """

    def __init__(self, role: Role, key: bytes, secret: bytes) -> None:
        self._secret = X25519PrivateKey.from_private_bytes(secret)
        self.hello = self._secret.public_key().public_bytes_raw()
        self._role = role
        self._key = key
        self._sealing: AESGCM | None = None
        self._opening: AESGCM | None = None
        self._sealed = 0
        self._opened = 0

    @property
    def ready(self) -> bool:
        """The other's hello was heard."""
        return self._sealing is not None

    def say(self, said: Said) -> bytes:
        """Once it is `ready`. Data of at most MAX_PAYLOAD bytes."""
        assert self._sealing is not None
        plain = b"\0" + said.data if isinstance(said, Data) else b"\1" + said.why.encode()[:1024]
        self._sealed += 1
        return self._sealing.encrypt(_nonce(self._sealed), plain, None)

    def hear(self, message: bytes) -> Said | None:
        """None: that was the hello. Raises AccessError."""
        if self._opening is None:
            self._agree(message)
            return None
        if len(message) > MAX_FRAME:
            raise AccessError(Reason.TOO_LARGE, "cannot go on: a message is too large")
        self._opened += 1
        try:
            plain = self._opening.decrypt(_nonce(self._opened), message, None)
        except InvalidTag:
            why = "cannot go on: a message is not what the other end sent"
            raise AccessError(Reason.BAD_SIGNATURE, why) from None
        if plain[:1] == b"\0":
            return Data(plain[1:])
        return End(plain[1:].decode(errors="replace"))

    def _agree(self, hello: bytes) -> None:
        if len(hello) != SECRET_SIZE or hello == self.hello:
            raise AccessError(Reason.MALFORMED, "cannot begin: the other end does not say hello")
        try:
            agreed = self._secret.exchange(X25519PublicKey.from_public_bytes(hello))
        except ValueError as error:  # a point that would make any secret the same
            raise AccessError(Reason.BAD_KEY, f"cannot begin: {error}") from error
        hellos = {self._role: self.hello, self._role.other: hello}
        both = hellos[Role.OPERATOR] + hellos[Role.NODE]
        self._sealing = AESGCM(_derive(self._key + agreed, both, self._role))
        self._opening = AESGCM(_derive(self._key + agreed, both, self._role.other))


def _derive(secret: bytes, salt: bytes, sender: Role) -> bytes:
    info = b"edgevirt console, from the " + sender.value
    return HKDF(hashes.SHA256(), KEY_SIZE, salt, info).derive(secret)


def _nonce(count: int) -> bytes:
    """A key is of one connection and one direction, so counting is enough."""
    return count.to_bytes(12, "big")


def read_key(text: str) -> bytes:
    """A session's key as the operators' API tells it. Raises AccessError."""
    try:
        key = _decode(text)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if len(key) != KEY_SIZE:
        raise AccessError(Reason.BAD_KEY, "cannot begin: the session's key has another size")
    return key


def write_key(key: bytes) -> str:
    return _encode(key)
