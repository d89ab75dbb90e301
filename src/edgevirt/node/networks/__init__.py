"""App networking: network instances, apps' interfaces, access rules, DHCP and DNS."""

from edgevirt.node.networks.service import SERVICE

__all__ = ["SERVICE"]
