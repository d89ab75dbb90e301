"""The programs themselves as verbs: what starts the fleet and the node, and prepares them."""
