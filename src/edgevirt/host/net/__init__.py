"""The machine's network: links, packet filter and app networks."""
