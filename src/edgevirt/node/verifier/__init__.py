"""verifier: proves blobs, reads manifests, unpacks layers. Has no network."""

from edgevirt.node.verifier.service import SERVICE

__all__ = ["SERVICE"]
