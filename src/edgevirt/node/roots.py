"""By what the controller's TLS certificate is believed."""

from __future__ import annotations

import ssl

from edgevirt.node.paths import Paths


def controller_roots(paths: Paths) -> ssl.SSLContext:
    """Only the roots that the node was given: the system's are not asked."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_verify_locations(cafile=str(paths.root_certificate))
    if paths.tls_roots.exists():
        tls.load_verify_locations(cafile=str(paths.tls_roots))
    return tls
