"""Access: consoles of apps, for whom the controller lets in, and for as long as it says."""

from edgevirt.node.access.service import SERVICE

__all__ = ("SERVICE",)
