"""The operators' API: Kubernetes' conventions over the Store."""

from edgevirt.fleet.api.app import Api, Subresource, create_app
from edgevirt.fleet.api.retention import forget_events
from edgevirt.fleet.api.serving import Tls, serve

__all__ = ["Api", "Subresource", "Tls", "create_app", "forget_events", "serve"]
