"""Websockets as both of the fleet's servers speak them."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

CERTIFICATE: Final = "edgevirt.peer_certificate"
"""Key of the ASGI scope: the client's certificate in DER, when TLS verified one."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own; it tells the peer's certificate, and takes a refusal for an answer."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_complete:
            return  # it was no websocket's request
        tls = self.transport.get_extra_info("ssl_object")
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[CERTIFICATE] = tls.getpeercert(binary_form=True) if tls is not None else None
        scope["headers"] = [(name.lower(), value) for name, value in scope["headers"]]

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
