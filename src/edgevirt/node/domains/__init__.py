"""domains: makes what apps run in, through a hypervisor adapter, and keeps it running."""

from edgevirt.node.domains.service import SERVICE

__all__ = ["SERVICE"]
