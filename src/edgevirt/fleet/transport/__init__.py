"""How the fleet speaks: the nodes' front door, and websockets for both of its servers."""
