"""volumes: content trees, the blobs that they are made of, and the disks made from them."""

from edgevirt.node.volumes.service import SERVICE

__all__ = ["SERVICE"]
