"""Service `baseos`: updates the node's own operating system, and goes back when that fails."""

from edgevirt.node.baseos.service import SERVICE as SERVICE

__all__ = ["SERVICE"]
