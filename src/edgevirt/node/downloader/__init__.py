"""downloader: fetches blobs from datastores. Has the network, and parses nothing."""

from edgevirt.node.downloader.service import SERVICE

__all__ = ["SERVICE"]
