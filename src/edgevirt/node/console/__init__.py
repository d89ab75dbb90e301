"""What somebody in front of the machine sees: a diagnosis in words, and a light."""

from edgevirt.node.console.service import SERVICE

__all__ = ["SERVICE"]
