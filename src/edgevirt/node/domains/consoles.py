"""Hands consoles to the access service, which may open none itself."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgevirt.host.door import Door, DoorError
from edgevirt.host.hypervisor import Hypervisor, HypervisorError
from edgevirt.model.access import ConsoleKind, ConsoleWish
from edgevirt.model.kinds import APP_SECRET, DOMAIN
from edgevirt.node.services import row_of
from edgevirt.runtime import Store

_LOG: Final = logging.getLogger("edgevirt.domains")


async def serve_consoles(store: Store, adapters: Sequence[Hypervisor], path: Path) -> None:
    """Never returns. Without a door apps run all the same."""
    consoles = Consoles(store, adapters)
    try:
        await Door(path, row_of("access").uid, ConsoleWish, consoles.open).serve()
    except OSError as failure:
        _LOG.error("cannot serve consoles: %s", failure)


class Consoles:
    """Opens them."""

    def __init__(self, store: Store, adapters: Sequence[Hypervisor]) -> None:
        self._store = store
        self._adapters = adapters

    async def open(self, wish: ConsoleWish) -> socket.socket:
        """Raises DoorError."""
        password = await self._password(wish) if wish.guarded else ""
        try:
            for adapter in self._adapters:
                if await adapter.info(wish.app) is not None:
                    found = await adapter.attach(wish.app, wish.kind, password=password)
                    _LOG.info("%s console of %s opened", wish.kind, wish.app)
                    return found
        except HypervisorError as failure:
            raise DoorError(str(failure)) from failure
        raise DoorError(f"cannot attach to {wish.app}: it does not run")

    async def _password(self, wish: ConsoleWish) -> str:
        """Empty: the app wants none."""
        domain = await self._store.get(DOMAIN, wish.app)
        if domain is None or domain.value.vnc is None or wish.kind is not ConsoleKind.VNC:
            raise DoorError(f"cannot attach to {wish.app}: its screen is not for the node's door")
        if not domain.value.has_secret:
            return domain.value.vnc.password
        secret = await self._store.get(APP_SECRET, wish.app)
        if secret is None or secret.value.why:
            why = secret.value.why if secret is not None else "its password isn't decrypted yet"
            raise DoorError(f"cannot attach to {wish.app}: {why}")
        return secret.value.vnc_password or domain.value.vnc.password
