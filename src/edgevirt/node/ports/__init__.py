"""The node's own connectivity: its ports, as the best of the port configs that it knows says."""

from edgevirt.node.ports.service import SERVICE

__all__ = ["SERVICE"]
