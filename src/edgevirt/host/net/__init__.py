"""The machine's network: bridges, guests' interfaces, packet filter, DHCP and DNS."""
