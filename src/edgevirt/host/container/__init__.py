"""Apps as containers on the node's own kernel."""
