"""logs: collects what services and apps print, bundles it, keeps it until it is uploaded."""

from edgevirt.node.logs.service import SERVICE

__all__ = ["SERVICE"]
