"""trust: the node's keys. It signs for the agent, and decrypts for whom it concerns."""

from edgevirt.node.trust.service import SERVICE

__all__ = ["SERVICE"]
