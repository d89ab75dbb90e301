"""The operators' API: Kubernetes' conventions over the Store."""

from edgevirt.fleet.api.app import Api, create_app
from edgevirt.fleet.api.serving import Tls, serve, tls_context
from edgevirt.fleet.api.table import Subresource

__all__ = ["Api", "Subresource", "Tls", "create_app", "serve", "tls_context"]
