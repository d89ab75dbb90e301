"""Remote access to a node: what its controller grants, and what is reached by it."""

from __future__ import annotations

import enum
from typing import Final

from edgevirt.model.base import Noun
from edgevirt.model.ids import AppId

VNC_PORT: Final = 5900
"""Of display 0."""


class ConsoleKind(enum.StrEnum):
    """A way into an app, past its network."""

    SERIAL = "serial"
    VNC = "vnc"


class Vnc(Noun, frozen=True, kw_only=True):
    """An app's screen at the node's own door, where the node's properties let it.

    `display`: its port is VNC_PORT and this. `password`: in clear; of which VNC uses 8 characters.
    """

    display: int = 0
    password: str = ""


class ConsoleWish(Noun, frozen=True, kw_only=True):
    """access → domains, past the store, as what comes back is open. `guarded`: the app's own VNC
    password is asked for."""

    app: AppId
    kind: ConsoleKind
    guarded: bool = False


class AccessConfig(Noun, frozen=True, kw_only=True):
    """`EdgeViewConfig` of the wire. Key: `node`. agent → access alone.

    `token`: a JSON web token that the controller signed (`wire.access`). `dispatcher_roots`: PEM
    texts, what its TLS certificate may lead to.
    """

    token: str
    dispatcher_roots: tuple[bytes, ...] = ()
    generation: int = 0
    rest: bytes = b""


class ConsoleGrant(Noun, frozen=True, kw_only=True):
    """One console of one app, once, for somebody whom the controller let in.

    `key`: 32 bytes, what both ends' keys are made of. `end`: wall clock.
    """

    id: str
    app: AppId
    kind: ConsoleKind
    key: bytes
    end: float
