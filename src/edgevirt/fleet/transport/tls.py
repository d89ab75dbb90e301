"""TLS as nodes speak it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

_CIPHERS: Final = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
"""The only two that EVE offers with TLS 1.2."""


def make_tls_context(pair_file: Path) -> ssl.SSLContext:
    """`pair_file`: key and certificate in one PEM file. Load another into the context at any
    time: new connections get it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Resuming saves a node a certificate's transfer and verification, but costs the server as much
    # as the handshake that it saves for every further ticket.
    context.num_tickets = 1
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(pair_file)
    return context
