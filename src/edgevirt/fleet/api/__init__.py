"""The operators' API: Kubernetes' conventions over the Store."""

from edgevirt.fleet.api.app import Api, Subresource, create_app
from edgevirt.fleet.api.serving import Tls, serve, tls_context

__all__ = ["Api", "Subresource", "Tls", "create_app", "serve", "tls_context"]
