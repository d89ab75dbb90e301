"""How a machine becomes a node, and what it is given for that."""
