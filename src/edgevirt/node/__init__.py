"""The node: services that make this machine match what its controller wants."""
